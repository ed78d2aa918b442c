# SPDX-License-Identifier: MIT
"""The walls: Python.h only above csrc/core.h, uv.h only in tokioloop_uv/, a core's name only in cores.c."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"

# python/rloop/ hands the name of a core down; nothing else tells one core from the other.
CORE_NAMES = re.compile(r"\b(mio|uvcore|uv)_\w+|\brloop_mio\b|\btokioloop_uv\b|\"(mio|uv)\"")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def is_below_core(path):
    return path.parts[0] in ("rloop_mio", "tokioloop_uv") or path.name.startswith(("core.h", "readiness", "cores.c"))


SOURCES = sorted(path.relative_to(CSRC) for path in CSRC.rglob("*.[ch]"))
BELOW = [path for path in SOURCES if is_below_core(path)]
ABOVE = [path for path in SOURCES if not is_below_core(path)]


def included(path):
    """The headers that a file includes, by their last name."""
    text = CSRC.joinpath(path).read_text()
    return {name.rpartition("/")[2] for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', text, re.MULTILINE)}


def reached(path):
    """The headers of ours, and of others, that a file includes by any way."""
    homes = {source.name: source for source in SOURCES}
    seen, todo = set(), included(path)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo |= included(homes[name]) if name in homes else set()
    return seen


def test_rooms_are_found():
    assert {"core.h", "cores.c", "rloop_mio/reactor.c"} <= {str(path) for path in BELOW}
    assert {"loop.c", "module.h"} <= {str(path) for path in ABOVE}


@pytest.mark.parametrize("path", BELOW, ids=str)
def test_no_python_below_core(path):
    assert "Python.h" not in reached(path)


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parts[0] != "tokioloop_uv"], ids=str)
def test_no_libuv_outside_its_room(path):
    assert "uv.h" not in reached(path)


@pytest.mark.parametrize("path", ABOVE, ids=str)
def test_no_core_is_named_above_core(path):
    assert not CORE_NAMES.search(COMMENT.sub("", CSRC.joinpath(path).read_text()))
    assert not {"epoll.h", "event.h", "poller.h", "reactor.h", "uvcore.h", "readiness.h"} & reached(path)


def test_reactor_does_not_know_libuv():
    for path in CSRC.joinpath("rloop_mio").iterdir():
        assert not re.search(r"\buv(core)?_", COMMENT.sub("", path.read_text())), path


def test_every_source_is_built():
    text = CSRC.joinpath("meson.build").read_text()
    assert [str(path) for path in SOURCES if path.suffix == ".c" and f"'{path}'" not in text] == []
