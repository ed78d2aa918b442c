# SPDX-License-Identifier: MIT
"""Event loop policies that make our loops; None where Python has no policies any more (3.16 and newer)."""

from asyncio import unix_events

from rloop.loops import RLoop, TokioLoop

# The default policy's class, by its private name: since 3.14 the public one warns when it is so much as looked at.
_DefaultPolicy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)


def _make_policy(name, loop_type):
    if _DefaultPolicy is None:
        return None
    doc = f"Makes ``{loop_type.__name__}`` wherever asyncio makes a loop (asyncio: Policies)."
    return type(name, (_DefaultPolicy,), {"__doc__": doc, "__module__": "rloop", "_loop_factory": loop_type})


EventLoopPolicy = _make_policy("EventLoopPolicy", RLoop)
TokioEventLoopPolicy = _make_policy("TokioEventLoopPolicy", TokioLoop)
