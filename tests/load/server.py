# SPDX-License-Identifier: MIT
"""The server under load, in a process of its own: `server.py MODULE:CALLABLE`.

Prints a line of JSON with its ports, and one for each line on stdin: `sample` (what the process holds, after a
collection) or `end` (everything is closed, and what was then left).
"""

import asyncio
import collections
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import load, open_fds

BIG = bytes(1 << 20)

counts = collections.Counter()


class Counted(asyncio.Protocol):
    """Each connection is lost once, with an end of file, a reset, or a broken pipe."""

    is_lost = False

    def connection_made(self, transport):
        counts["made"] += 1
        self.transport = transport

    def connection_lost(self, exc):
        counts["lost twice"] += self.is_lost
        self.is_lost = True
        counts["lost"] += 1
        if not isinstance(exc, (ConnectionResetError, BrokenPipeError, type(None))):
            counts["lost otherwise"] += 1


class Echo(Counted):
    """With the peer's speed."""

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Crumbs(Echo):
    """The same, a byte a write."""

    def data_received(self, data):
        for i in range(len(data)):
            self.transport.write(data[i : i + 1])


class Source(Counted):
    """Sends for as long as somebody reads, and stops when told to; a slow reader slows it."""

    is_paused = False

    def connection_made(self, transport):
        super().connection_made(transport)
        self.resume_writing()

    def pause_writing(self):
        self.is_paused = True

    def resume_writing(self):
        self.is_paused = False
        while not self.is_paused and not self.transport.is_closing():
            self.transport.write(BIG)


def sample():
    gc.collect()
    process = psutil.Process()
    return {
        "rss": process.memory_info().rss,
        "fds": len(open_fds()),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "cpu": time.process_time(),
        "open": counts["made"] - counts["lost"],
        **{name: counts[name] for name in ("made", "lost", "lost twice", "lost otherwise")},
    }


async def serve(say):
    loop = asyncio.get_running_loop()
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(str(context)))
    before = len(open_fds())
    servers = {}
    for kind in (Echo, Crumbs, Source):
        servers[kind.__name__] = await loop.create_server(kind, "127.0.0.1", 0, backlog=4096)
    say(ports={name: server.sockets[0].getsockname()[1] for name, server in servers.items()})
    lines = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(os.dup(0), "rb", 0))
    while (line := await lines.readline()) == b"sample\n":
        say(**sample(), errors=errors)
    for server in servers.values():
        server.close()
    assert line == b"end\n"
    for server in servers.values():
        await server.wait_closed()
    pipe.close()
    await asyncio.sleep(0.1)
    say(**sample(), errors=errors, left_fds=len(open_fds()) - before)


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with asyncio.Runner(loop_factory=load(sys.argv[1])) as runner:
        runner.run(serve(lambda **message: print(json.dumps(message), flush=True)))


if __name__ == "__main__":
    main()
