# SPDX-License-Identifier: MIT
"""Short ways to one of our loops."""

import asyncio

from rloop import policies
from rloop.loops import RLoop, TokioLoop


def new_event_loop():
    """Return a new ``RLoop``."""
    return RLoop()


def new_tokio_event_loop():
    """Return a new ``TokioLoop``."""
    return TokioLoop()


def run(main, *, loop_factory=RLoop, debug=None):
    """Run the coroutine ``main`` on a new loop, close the loop, and return the result.

    As ``asyncio.run`` (asyncio: Runners), with ``RLoop`` in the place of asyncio's loop.  ``debug``: None leaves the
    debug mode as the environment has it.  RuntimeError when a loop runs in this thread already, ValueError when
    ``main`` is no coroutine.
    """
    return asyncio.run(main, debug=debug, loop_factory=loop_factory)


def install():
    """Make ``RLoop`` the loop that asyncio makes, by way of the event loop policy.

    RuntimeError where Python has no policies any more: use ``run`` or ``asyncio.Runner(loop_factory=...)`` there.
    """
    if policies.EventLoopPolicy is None:
        raise RuntimeError("this Python has no event loop policies: use rloop.run or asyncio.Runner(loop_factory=...)")
    asyncio.set_event_loop_policy(policies.EventLoopPolicy())
