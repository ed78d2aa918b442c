# SPDX-License-Identifier: MIT
"""loop.getaddrinfo: numeric addresses are answered at once, names by asyncio's own way through the default executor.

A thread and two wake-ups are a high price for what needs no look-up.  Each answer equals that of socket.getaddrinfo().
"""

import socket
import sys
from asyncio.base_events import BaseEventLoop

_system_getaddrinfo = socket.getaddrinfo
_INET, _INET6, _STREAM, _DGRAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
_inet_pton = socket.inet_pton


def _answer(host, port, family, type_, proto, flags):
    """What socket.getaddrinfo() returns, or None if it has to be asked itself (names, scope ids, all that is odd)."""
    if flags != 0 or type(host) is not str or type(port) is not int or not 0 <= port <= 65535:
        return None
    if type_ == _STREAM:
        kind, own_proto = _STREAM, socket.IPPROTO_TCP
    elif type_ == _DGRAM:
        kind, own_proto = _DGRAM, socket.IPPROTO_UDP
    else:
        return None
    try:
        _inet_pton(_INET, host)
        own_family, address = _INET, (host, port)
    except (OSError, ValueError):
        try:
            own_family, address = _INET6, (socket.inet_ntop(_INET6, _inet_pton(_INET6, host)), port, 0, 0)
        except (OSError, ValueError):
            return None
    if family not in (0, own_family) or proto not in (0, own_proto):
        return None
    sys.audit("socket.getaddrinfo", host, port, family, type_, proto)
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
