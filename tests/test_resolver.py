# SPDX-License-Identifier: MIT
"""loop.getaddrinfo answers, and fails, as socket.getaddrinfo does."""

import socket
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOSTS = [
    *("127.0.0.1", "0.0.0.0", "255.255.255.255", "1.2.3.4", "1.2.3", "127.1", "0x7f.1", "127.0.0.01", "256.1.1.1"),
    *("::1", "::", "::ffff:1.2.3.4", "2001:db8::1", "2001:DB8:0:0:0::1", "fe80::1%lo", "1.2.3.4.5"),
    *(" 127.0.0.1", "127.0.0.1 ", "127.0.0.1\0x", "\u0661.2.3.4", "", "localhost", None, b"127.0.0.1", 5),
]
PORTS = [0, 80, 65535, 65536, -1, "80", "http", None, True, b"80", 80.5]


def outcome(function):
    try:
        return [(repr(entry), [type(part) for part in entry]) for entry in function()]
    except Exception as error:
        return type(error), error.args


def same(loop, host, port, **options):
    expected = outcome(lambda: socket.getaddrinfo(host, port, **options))
    assert outcome(lambda: loop.run_until_complete(loop.getaddrinfo(host, port, **options))) == expected


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_every_kind_of_host(loop, host):
    for type_ in (0, socket.SOCK_STREAM, 1, socket.SOCK_DGRAM, socket.SOCK_RAW, 77):
        same(loop, host, 80, type=type_, flags=0 if host != "localhost" else socket.AI_NUMERICHOST)


@pytest.mark.parametrize("port", PORTS, ids=repr)
def test_every_kind_of_port(loop, port):
    for host in ("127.0.0.1", "::1"):
        same(loop, host, port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("family", [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 99])
@pytest.mark.parametrize("proto", [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 99])
def test_family_and_protocol(loop, family, proto):
    for host in ("127.0.0.1", "::1"):
        for type_ in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            same(loop, host, 80, family=family, proto=proto, type=type_)


@pytest.mark.parametrize(
    "flags", [socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV]
)
def test_flags(loop, flags):
    for host in ("127.0.0.1", "::1", None):
        same(loop, host, 80, type=socket.SOCK_STREAM, flags=flags)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    address=st.one_of(st.ip_addresses(), st.ip_addresses(v=6)),
    form=st.sampled_from(["compressed", "exploded"]),
    port=st.integers(0, 65535),
    type_=st.sampled_from([socket.SOCK_STREAM, socket.SOCK_DGRAM]),
)
def test_any_address(loop, address, form, port, type_):
    same(loop, getattr(address, form), port, type=type_)


def test_a_resolver_of_the_program_is_asked(loop, monkeypatch):
    asked = []

    def resolver(*args, **kwargs):
        asked.append(args)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)) == []
    assert asked == [("127.0.0.1", 80, 0, socket.SOCK_STREAM, 0, 0)]


def test_audit_hooks_hear_of_it(loop):
    heard = []
    listening = threading.Event()

    def hook(event, args):
        if event == "socket.getaddrinfo" and listening.is_set():
            heard.append(args)

    sys.addaudithook(hook)
    listening.set()
    loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM))
    listening.clear()
    assert heard == [("127.0.0.1", 80, 0, socket.SOCK_STREAM, 0)]
