# SPDX-License-Identifier: MIT
"""Loops that go wrong, for test_bench.py: a worker imports this in a process of its own."""

import asyncio
import os
import signal
import time


class CrashingLoop(asyncio.SelectorEventLoop):
    async def create_server(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)


class HangingLoop(asyncio.SelectorEventLoop):
    async def create_server(self, *args, **kwargs):
        time.sleep(60)


class SilentLoop(asyncio.SelectorEventLoop):
    """Its servers never answer."""

    async def create_server(self, factory, *args, **kwargs):
        return await super().create_server(asyncio.Protocol, *args, **kwargs)


class LackingLoop(asyncio.SelectorEventLoop):
    async def create_server(self, *args, **kwargs):
        raise NotImplementedError("servers")


class BrokenLoop(asyncio.SelectorEventLoop):
    async def create_server(self, *args, **kwargs):
        raise RuntimeError("no servers today")


class CorruptingLoop(asyncio.SelectorEventLoop):
    """Changes the last byte of all that its servers receive."""

    async def create_server(self, factory, *args, **kwargs):
        def corrupted():
            protocol = factory()
            receive = protocol.data_received
            protocol.data_received = lambda data: receive(data[:-1] + bytes([data[-1] ^ 1]))
            return protocol

        return await super().create_server(corrupted, *args, **kwargs)
