# SPDX-License-Identifier: MIT
"""A TCP echo server by asyncio.Protocol: `echo_server.py MODULE:LOOP` prints its port and runs until it is killed."""

import asyncio
import importlib
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    module_name, _, attribute = sys.argv[1].partition(":")
    with asyncio.Runner(loop_factory=getattr(importlib.import_module(module_name), attribute)) as runner:
        runner.run(main())
