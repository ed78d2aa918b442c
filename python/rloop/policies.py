# SPDX-License-Identifier: MIT
"""Event loop policies that make our loops; None where Python has no policies any more (3.16 and newer)."""

from asyncio import unix_events

from rloop.loops import RLoop, TokioLoop

# The default policy's class, by its private name: since 3.14 the public one warns when it is so much as looked at.
_DefaultPolicy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)

if _DefaultPolicy is None:
    EventLoopPolicy = TokioEventLoopPolicy = None
else:

    class EventLoopPolicy(_DefaultPolicy):
        """Makes ``RLoop`` wherever asyncio makes a loop (asyncio: Policies)."""

        _loop_factory = RLoop

    class TokioEventLoopPolicy(_DefaultPolicy):
        """Makes ``TokioLoop`` wherever asyncio makes a loop (asyncio: Policies)."""

        _loop_factory = TokioLoop
