# SPDX-License-Identifier: MIT
"""loop.getaddrinfo: numeric addresses are answered at once, names by asyncio's own way through the default executor.

A thread and two wake-ups are a high price for what needs no look-up.  Each answer equals that of socket.getaddrinfo().
"""

import socket
import sys
from asyncio.base_events import BaseEventLoop

_system_getaddrinfo = socket.getaddrinfo
_KINDS = {
    socket.SOCK_STREAM: (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    socket.SOCK_DGRAM: (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
}


def _packed(host):
    """The family and the bytes of a numeric address; (None, None) for anything else, scope ids too."""
    if type(host) is str and host.isascii():
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return family, socket.inet_pton(family, host)
            except (OSError, ValueError):
                pass
    return None, None


def _answer(host, port, family, type_, proto, flags):
    """What socket.getaddrinfo() returns, or None if it has to be asked itself."""
    own_family, packed = _packed(host)
    kind, own_proto = _KINDS.get(type_, (None, None))
    if own_family is None or kind is None or flags != 0 or type(port) is not int or not 0 <= port <= 65535:
        return None
    if family not in (0, own_family) or proto not in (0, own_proto):
        return None
    sys.audit("socket.getaddrinfo", host, port, family, type_, proto)
    address = (host, port) if own_family == socket.AF_INET else (socket.inet_ntop(own_family, packed), port, 0, 0)
    return [(own_family, kind, own_proto, "", address)]


class ResolverMixin:
    __slots__ = ()

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """socket.getaddrinfo(), without blocking (asyncio: Event Loop, getaddrinfo).

        A numeric IPv4 or IPv6 address with a port number and a socket type is answered at once; the rest goes to the
        default executor.  Raises socket.gaierror.
        """
        # A program that has put its own resolver into socket's place gets to see every question.
        if socket.getaddrinfo is _system_getaddrinfo and not self._debug:
            answer = _answer(host, port, family, type, proto, flags)
            if answer is not None:
                return answer
        return await BaseEventLoop.getaddrinfo(self, host, port, family=family, type=type, proto=proto, flags=flags)
