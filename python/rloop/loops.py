# SPDX-License-Identifier: MIT
"""The two loops: the C half, asyncio's own cold half, and what lies between.

asyncio asks loop authors to inherit from ``BaseEventLoop`` and to fill its hooks (asyncio: Extending).  The C half
answers the hot ones; here are the cold ones.  Where the stdlib's Unix loop has a method that fits us as it stands, it
is borrowed.
"""

import os
import sys
import threading
import weakref
from asyncio import events
from asyncio.base_events import BaseEventLoop
from asyncio.log import logger
from asyncio.unix_events import _UnixSelectorEventLoop as _UnixLoop

from rloop._rloop import LoopBase
from rloop.processes import ProcessMixin
from rloop.resolver import ResolverMixin
from rloop.signals import SignalMixin
from rloop.tls import TLSMixin

_live_loops = weakref.WeakSet()


def _after_fork_in_child():
    for loop in list(_live_loops):
        loop._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _NoSelector:
    """What `loop._selector` is.  A `__getattr__` on the loop could say the same, and slow every attribute down."""

    def __get__(self, loop, owner=None):
        name = (owner if loop is None else type(loop)).__name__
        reason = "a program that replaces the stdlib loop's _run_once(), such as nest_asyncio, can't work with it"
        raise AttributeError(f"{name!r} object has no attribute '_selector': {reason}", name="_selector", obj=loop)


def _base_state():
    """The names under which this version's BaseEventLoop keeps state on an instance, but for those that are C's."""
    loop = BaseEventLoop()
    loop.close()
    return vars(loop).keys() - set(dir(LoopBase))


class _Loop(SignalMixin, ProcessMixin, ResolverMixin, TLSMixin, LoopBase, BaseEventLoop):
    # With all state in slots the instance's dictionary stays unmade, and only then does the interpreter specialize
    # `loop.call_soon(...)`.
    __slots__ = (*sorted(_base_state()), *SignalMixin._state, *ProcessMixin._state, "_unix_server_sockets")
    _core = None

    def __init__(self, *, busy_poll=0.0):
        self.busy_poll = busy_poll
        BaseEventLoop.__init__(self)
        LoopBase.__init__(self, self._core)
        SignalMixin.__init__(self)
        ProcessMixin.__init__(self)
        self._unix_server_sockets = {}
        _live_loops.add(self)

    # --- running and closing

    def run_forever(self):
        """Run until stop() is called (asyncio: Event Loop, run_forever).

        RuntimeError when the loop is closed, or when a loop runs in this thread already.
        """
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        old_hooks = sys.get_asyncgen_hooks()
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
            events._set_running_loop(self)
            self._watch_wakeup_fd()
            self._run_turns()
        finally:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._unwatch_wakeup_fd()
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*old_hooks)

    def close(self):
        """Close the loop and everything it holds; no protocol is called (asyncio: Event Loop, close).

        RuntimeError while the loop runs.  Closing a closed loop does nothing.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        BaseEventLoop.close(self)  # first, so that nobody adds to what is removed now
        self._close_signals()
        self._close_processes()
        self._close_core()

    def _after_fork(self):
        self._renew_core()
        self._forget_wakeup_fd()
        if self.is_running():  # by the callback that has forked
            self._watch_wakeup_fd()

    _selector = _NoSelector()

    # --- Unix sockets

    create_unix_connection = _UnixLoop.create_unix_connection
    create_unix_server = _UnixLoop.create_unix_server

    def _stop_serving(self, sock):
        inode = self._unix_server_sockets.pop(sock, None)
        path = None if inode is None else sock.getsockname()
        LoopBase._stop_serving(self, sock)
        if inode is None:
            return
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)

    # --- sendfile

    _sock_sendfile_native = _UnixLoop._sock_sendfile_native
    _sock_sendfile_native_impl = _UnixLoop._sock_sendfile_native_impl
    _sock_sendfile_update_filepos = _UnixLoop._sock_sendfile_update_filepos
    _sock_add_cancellation_callback = _UnixLoop._sock_add_cancellation_callback

    async def _sendfile_native(self, transport, file, offset, count):
        resume_reading = transport.is_reading()
        transport.pause_reading()
        await transport._make_empty_waiter()
        try:
            # The transport's own fd belongs to the core; a copy of it can be watched beside that.
            with transport.get_extra_info("socket").dup() as sock:
                return await self.sock_sendfile(sock, file, offset, count, fallback=False)
        finally:
            transport._reset_empty_waiter()
            if resume_reading:
                transport.resume_reading()


class RLoop(_Loop):
    """An asyncio event loop on rloop's own reactor: epoll on Linux, kqueue on macOS and BSD.

    Drop-in for ``asyncio.SelectorEventLoop`` (asyncio: Event Loop).

    busy_poll (seconds, also an attribute of the loop): before the loop sleeps it looks for events for that long.  An
    answer that comes meanwhile is seen sooner, because the thread need not be woken.  The price is CPU time: each wait
    may burn that much of a core, with nothing done.  0, the default, turns it off.  ValueError when it is negative or
    not finite, TypeError when it is no number.
    """

    _core = "mio"


class TokioLoop(_Loop):
    """An asyncio event loop on libuv, completion-style.

    Drop-in for ``asyncio.SelectorEventLoop`` (asyncio: Event Loop).  busy_poll is that of RLoop.
    """

    _core = "uv"


RLoop._adopt_methods()
TokioLoop._adopt_methods()
