# SPDX-License-Identifier: MIT
"""The loops that can be measured: those of this interpreter, those that --loop names, and the echo servers in C."""

import dataclasses
import importlib.util
import subprocess
import sys

LIMITS = ["C epoll", "C libuv"] if sys.platform == "linux" else ["C libuv"]
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


def limits():
    return [Loop(name, "", "") for name in LIMITS]


def describe(loop):
    """The version of what has the loop, and of its interpreter."""
    if loop.name in LIMITS:
        return {"version": "", "python": ""}
    code = (
        "import importlib.metadata as m, platform, sys; d = m.packages_distributions().get(sys.argv[1], ['']);"
        "print(platform.python_version()); print(d[0] and m.version(d[0]))"
    )
    command = [loop.python, "-c", code, loop.where.partition(":")[0].partition(".")[0]]
    try:
        python, version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:2]
    except (OSError, subprocess.CalledProcessError):
        return {"version": "", "python": ""}
    return {"version": version, "python": python}


def parse(text):
    """NAME of a known one, or NAME=PYTHON:MODULE:CALLABLE; without PYTHON, this interpreter."""
    name, separator, rest = text.partition("=")
    if not separator:
        if name not in HERE:
            raise ValueError(
                f"no loop is called {name!r}; known: {', '.join(HERE)}; others as NAME=PYTHON:MODULE:CALLABLE"
            )
        return Loop(name, HERE[name], sys.executable)
    python, _, where = rest.partition(":")
    if ":" not in where:
        raise ValueError(f"{text!r} is not NAME=PYTHON:MODULE:CALLABLE")
    return Loop(name, where, python or sys.executable)
