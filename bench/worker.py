# SPDX-License-Identifier: MIT
"""One case of one scenario on one loop, in a process of its own: `worker.py SCENARIO CASE MODULE:CALLABLE SECONDS
CORE`.

Run by path, so that the loop's own interpreter needs nothing of this package, and so that a peer whose import name is
rloop, too, meets no other.  Prints JSON, a line each: {"address": [...]} when a network scenario serves, which it does
until it is killed; or else {"result": {...}}; {"lacks": "..."} when the loop has no such feature, {"missing": "..."}
when something can't be imported.
"""

import asyncio
import importlib
import json
import os
import resource
import sys
import traceback


def load(where):
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def find_case(scenario, name):
    return next(case for case in scenario.CASES if case.name == name)


def serve(scenario, case, new_loop, say):
    loop = new_loop()
    asyncio.set_event_loop(loop)  # some libraries still ask for it
    address, keep = loop.run_until_complete(scenario.serve(loop, case))
    say(address=address)
    loop.run_forever()


def run(name, case_name, where, seconds, say):
    try:
        scenario = importlib.import_module(f"scenarios.{name}")
        new_loop = load(where)
    except ImportError as error:
        say(missing=str(error))
        return
    case = find_case(scenario, case_name)
    try:
        if hasattr(scenario, "run"):
            say(result=scenario.run(new_loop, case, seconds).fields)
        else:
            serve(scenario, case, new_loop, say)
    except NotImplementedError as error:
        say(lacks=str(error) or f"line {traceback.extract_tb(error.__traceback__)[-1].line}")


def main():
    name, case_name, where, seconds, core = sys.argv[1:]
    # What a library prints must not get between the lines of JSON.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**message):
        out.write(json.dumps(message) + "\n")

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    run(name, case_name, where, float(seconds), say)


if __name__ == "__main__":
    main()
