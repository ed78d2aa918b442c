# SPDX-License-Identifier: MIT
"""Subprocesses: asyncio's transport for them, on our pipes; their end is seen by a file descriptor of the process.

That is a pidfd on Linux and a kqueue with EVFILT_PROC on macOS and BSD (pidfd_open(2), kqueue(2)), so neither SIGCHLD
nor a thread is needed, and it works in every thread's loop.
"""

import os
import select
import threading
from asyncio.log import logger
from asyncio.unix_events import _UnixSubprocessTransport


class _ProcessKqueue:
    """Readable once the process has ended."""

    def __init__(self, pid):
        self._kqueue = select.kqueue()
        try:
            event = select.kevent(
                pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
            )
            self._kqueue.control([event], 0)
        except BaseException:
            self._kqueue.close()
            raise
        self.fileno = self._kqueue.fileno
        self.close = self._kqueue.close


class _ProcessPidfd:
    def __init__(self, pid):
        self._fd = os.pidfd_open(pid)

    def fileno(self):
        return self._fd

    def close(self):
        os.close(self._fd)


def _open_process(pid):
    """What becomes readable when the process ends; OSError where the system has nothing of the kind."""
    if hasattr(os, "pidfd_open"):
        return _ProcessPidfd(pid)
    if hasattr(select, "kqueue"):
        return _ProcessKqueue(pid)
    raise OSError("no way to poll a process")


def _wait(pid):
    """The exit code of a child that has ended (or will)."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        # Somebody else, a SIGCHLD handler or a bare os.wait(), was quicker; asyncio reports the same.
        logger.warning("child process pid %d exit status already read: will report returncode 255", pid)
        return 255
    return os.waitstatus_to_exitcode(status)


class ProcessMixin:
    __slots__ = ()
    _state = ("_processes",)  # slots of the loop

    def __init__(self):
        self._processes = set()  # those whose end is awaited

    async def _make_subprocess_transport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs
    ):
        waiter = self.create_future()
        transport = _UnixSubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        self._watch_process(transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def _watch_process(self, transport):
        pid = transport.get_pid()
        try:
            process = _open_process(pid)
        except OSError:
            # An old kernel, or a sandbox that forbids it: a thread waits for the process.
            thread = threading.Thread(
                target=self._wait_in_thread, args=(pid, transport), name=f"rloop-waitpid-{pid}", daemon=True
            )
            thread.start()
            return
        self._processes.add(process)
        self._add_reader(process.fileno(), self._process_ended, process, pid, transport)

    def _process_ended(self, process, pid, transport):
        self._forget_process(process)
        transport._process_exited(_wait(pid))

    def _forget_process(self, process):
        self._remove_reader(process.fileno())
        self._processes.discard(process)
        process.close()

    def _wait_in_thread(self, pid, transport):
        returncode = _wait(pid)
        if self.is_closed():
            logger.warning("Loop %r that handles pid %r is closed", self, pid)
        else:
            self.call_soon_threadsafe(transport._process_exited, returncode)

    def _close_processes(self):
        for process in list(self._processes):
            self._forget_process(process)
