# SPDX-License-Identifier: MIT
"""The loops that can be measured: those of this interpreter, those that --loop names, and the C servers that are the limit."""

import dataclasses
import importlib.util
import sys

LIMITS = ["C epoll", "C libuv"]
HERE = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "RLoop": "rloop:RLoop",
    "TokioLoop": "rloop:TokioLoop",
}
BASELINE = "uvloop"


@dataclasses.dataclass(frozen=True)
class Loop:
    name: str
    where: str  # module:callable
    python: str  # the interpreter that has the module


def installed():
    return [Loop(name, where, sys.executable) for name, where in HERE.items() if is_installed(where)]


def is_installed(where):
    return importlib.util.find_spec(where.partition(":")[0]) is not None


def parse(text):
    """NAME of a known one, or NAME=PYTHON:MODULE:CALLABLE; without PYTHON, this interpreter."""
    name, separator, rest = text.partition("=")
    if not separator:
        if name not in HERE:
            raise ValueError(f"no loop is called {name!r}; known: {', '.join(HERE)}; others as NAME=PYTHON:MODULE:CALLABLE")
        return Loop(name, HERE[name], sys.executable)
    python, _, where = rest.partition(":")
    if ":" not in where:
        raise ValueError(f"{text!r} is not NAME=PYTHON:MODULE:CALLABLE")
    return Loop(name, where, python or sys.executable)
