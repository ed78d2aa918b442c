# SPDX-License-Identifier: MIT
"""Two fast event loops for asyncio.

``RLoop`` runs on rloop's own reactor (epoll, kqueue), ``TokioLoop`` on libuv.  Both have the interface, the semantics
and the errors of ``asyncio.SelectorEventLoop``::

    rloop.run(main())
    asyncio.Runner(loop_factory=rloop.TokioLoop)
    asyncio.set_event_loop_policy(rloop.EventLoopPolicy())  # where Python has policies
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from rloop import policies as _policies
from rloop.loops import RLoop, TokioLoop
from rloop.runners import install, new_event_loop, new_tokio_event_loop, run

__all__ = [
    "RLoop",
    "TokioLoop",
    "__version__",
    "install",
    "new_event_loop",
    "new_tokio_event_loop",
    "run",
]

try:
    __version__ = _version("rloop")
except _PackageNotFoundError:  # imported from a build folder
    __version__ = "0+unknown"

if _policies.EventLoopPolicy is not None:
    from rloop.policies import EventLoopPolicy, TokioEventLoopPolicy

    __all__ += ["EventLoopPolicy", "TokioEventLoopPolicy"]
