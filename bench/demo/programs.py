# SPDX-License-Identifier: MIT
"""The demo's programs, and how one of them is run: `python -m demo.programs NAME MODULE:LOOP` prints a line of JSON.

A program is a module with a coroutine function run() that does its work, checks every answer, and returns how many
units of work it did.  title says what it does, unit what is counted.
"""

import asyncio
import importlib
import json
import resource
import sys
import time

NAMES = ["streams_echo", "aiohttp_site", "uvicorn_app", "tls_echo", "timers_and_tasks", "subprocesses"]


class Programs(dict):
    """Modules by name, imported when they are asked for."""

    def __missing__(self, name):
        if name not in NAMES:
            raise SystemExit(f"no such program: {name} (there are: {', '.join(NAMES)})")
        self[name] = importlib.import_module(f"demo.{name}")
        return self[name]

    def __iter__(self):
        return iter(NAMES)


PROGRAMS = Programs()


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main(name, loop):
    module_name, _, attribute = loop.partition(":")
    loop_factory = getattr(importlib.import_module(module_name), attribute)
    program = PROGRAMS[name]
    start, cpu_start = time.monotonic(), cpu_seconds()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        if not isinstance(runner.get_loop(), loop_factory):
            raise SystemExit(f"the loop is not a {loop}")
        count = runner.run(asyncio.wait_for(program.run(), 120))
    print(json.dumps({"count": count, "seconds": time.monotonic() - start, "cpu_seconds": cpu_seconds() - cpu_start}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
