# SPDX-License-Identifier: MIT
"""UDP echo by asyncio.DatagramProtocol."""

import asyncio

from scenario import Case, echo_arguments

CASES = [Case("1 KiB, 50 peers", size=1024, connections=50, goal=1.55, quick=True)]


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def serve(loop, case):
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    return ["--udp", str(transport.get_extra_info("sockname")[1])], transport


def client(case):
    return echo_arguments(case)


def limit(case):
    return ["--udp"]
