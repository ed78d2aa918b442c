# SPDX-License-Identifier: MIT
"""Signal handlers, and waking the loop when a signal comes.

Python's C signal handler writes each signal's number to one file descriptor of the process (signal.set_wakeup_fd).
Ours is a socket pair that the loop reads.  It is set while the loop runs in the main thread, so that Ctrl-C ends a
wait, and as long as the loop has handlers.  Whoever had set it before gets the numbers too, and gets it back.
"""

import asyncio
import contextvars
import errno
import inspect
import os
import signal
import socket
import sys
import threading
import warnings


def _ignore(signum, frame):
    """A Python-level handler, so that the C-level one writes to the wakeup fd."""


class SignalMixin:
    __slots__ = ()
    _state = ("_signal_handlers", "_signal_sockets", "_is_wakeup_set", "_previous_wakeup_fd")  # slots of the loop

    def __init__(self):
        self._signal_handlers = {}  # number -> (callback, args, context)
        self._signal_sockets = None  # (ours to read, Python's to write)
        self._is_wakeup_set = False
        self._previous_wakeup_fd = -1

    def add_signal_handler(self, sig, callback, *args):
        """Call callback(*args) in the loop whenever the process gets the signal (asyncio: add_signal_handler).

        TypeError for a coroutine (function) or a signal that is no int, ValueError for one that doesn't exist,
        RuntimeError for one that can't be caught and in any thread but the main one.
        """
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("set_wakeup_fd only works in main thread of the main interpreter")
        try:
            self._set_wakeup_fd()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        if not self._signal_handlers:
            self._read_signals()  # what came before is none of this handler's
        self._signal_handlers[sig] = (callback, args, contextvars.copy_context())
        self._relax_wakeup_fd()
        try:
            signal.signal(sig, _ignore)
            signal.siginterrupt(sig, False)
        except OSError as exc:
            del self._signal_handlers[sig]
            self._relax_wakeup_fd()
            self._unwatch_wakeup_fd()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise

    def remove_signal_handler(self, sig):
        """Remove the signal's handler and return True, or False if it had none (asyncio: Event Loop).

        Errors as of add_signal_handler.
        """
        self._check_signal(sig)
        try:
            del self._signal_handlers[sig]
        except KeyError:
            return False
        handler = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, handler)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise
        self._relax_wakeup_fd()
        self._unwatch_wakeup_fd()
        return True

    @staticmethod
    def _check_signal(sig):
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")

    # --- the wakeup fd

    def _watch_wakeup_fd(self):
        """The loop begins to run: in the main thread, signals are to wake it."""
        if threading.current_thread() is threading.main_thread():
            try:
                self._set_wakeup_fd()
            except ValueError:
                pass  # the main thread of a subinterpreter: signals aren't its business

    def _unwatch_wakeup_fd(self):
        """Give the wakeup fd back, unless the loop runs or has handlers."""
        if not self._is_wakeup_set or self._signal_handlers or self.is_running():
            return
        self._is_wakeup_set = False
        try:
            current = signal.set_wakeup_fd(self._previous_wakeup_fd)
        except (ValueError, OSError):
            current = signal.set_wakeup_fd(-1)  # whoever had set that one has closed it
        if current != self._signal_sockets[1].fileno():
            signal.set_wakeup_fd(current)  # somebody has set another one meanwhile

    def _set_wakeup_fd(self):
        if self._is_wakeup_set:
            return
        if self._signal_sockets is None:
            reading, writing = socket.socketpair()
            reading.setblocking(False)
            writing.setblocking(False)
            self._signal_sockets = (reading, writing)
            self._add_reader(reading.fileno(), self._read_signals)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._signal_sockets[1].fileno(), warn_on_full_buffer=False)
        self._is_wakeup_set = True
        self._relax_wakeup_fd()

    def _relax_wakeup_fd(self):
        """While nobody is to hear of a signal's number, the fd is there only to end a wait: a turn that doesn't wait
        need not look at it."""
        nobody = not self._signal_handlers and self._previous_wakeup_fd == -1
        self._relax_reader(self._signal_sockets[0].fileno(), nobody)

    def _read_signals(self):
        try:
            numbers = self._signal_sockets[0].recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        if self._previous_wakeup_fd != -1:
            try:
                os.write(self._previous_wakeup_fd, numbers)
            except OSError:
                pass  # as Python's own handler: a full or closed wakeup fd loses the numbers
        for number in numbers:
            handler = self._signal_handlers.get(number)
            if handler is not None:
                callback, args, context = handler
                self.call_soon(callback, *args, context=context)

    # --- the end

    def _close_signals(self):
        if sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, skipping signal handlers removal",
                    ResourceWarning,
                    source=self,
                    stacklevel=2,
                )
                self._signal_handlers.clear()
        else:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        self._close_signal_sockets()

    def _close_signal_sockets(self):
        if self._signal_sockets is None:
            return
        self._remove_reader(self._signal_sockets[0].fileno())
        for sock in self._signal_sockets:
            sock.close()
        self._signal_sockets = None

    def _forget_wakeup_fd(self):
        """In a forked child: the sockets are the parent's, and asyncio has unset the child's wakeup fd."""
        self._is_wakeup_set = False
        self._signal_handlers.clear()
        self._close_signal_sockets()
