# SPDX-License-Identifier: MIT
"""Subprocesses: asyncio's transport for them, on our pipes; their end is seen by a file descriptor of the process.

That is a pidfd on Linux and a kqueue with EVFILT_PROC on macOS and BSD (pidfd_open(2), kqueue(2)), so neither SIGCHLD
nor a thread is needed, and it works in every thread's loop.
"""

import os
import select
import threading
from asyncio import protocols
from asyncio.base_events import BaseEventLoop
from asyncio.base_subprocess import ReadSubprocessPipeProto, WriteSubprocessPipeProto
from asyncio.log import logger
from asyncio.tasks import sleep
from asyncio.unix_events import _UnixSubprocessTransport


class _Unconnected:
    """The loop, while asyncio's transport makes itself on it; the task that would connect the pipes is not made."""

    def __init__(self, loop):
        self.get_debug = loop.get_debug

    def create_task(self, coroutine):
        coroutine.close()


class _SubprocessTransport(_UnixSubprocessTransport):
    """asyncio's, with its pipes connected all at once.

    asyncio's connects them in a task, one after the other, and each takes three turns of the loop: connection_made()
    may be anybody's there.  A subprocess's pipes have protocols of asyncio's own, which only note the transport.
    """

    def __init__(self, loop, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs):
        super().__init__(
            _Unconnected(loop), protocol, args, shell, stdin, stdout, stderr, bufsize, extra=extra, **kwargs
        )
        self._loop = loop

    async def connect(self):
        """Connect the pipes and make the connection: the protocol's connection_made() has run when this returns."""
        loop = self._loop
        if not _connects_as_asyncio(loop):
            waiter = loop.create_future()
            loop.create_task(self._connect_pipes(waiter))
            await waiter
            return
        proc = self._proc
        try:
            if proc.stdin is not None:
                self._connect_pipe(WriteSubprocessPipeProto(self, 0), loop._make_write_pipe_transport, proc.stdin)
            if proc.stdout is not None:
                self._connect_pipe(ReadSubprocessPipeProto(self, 1), loop._make_read_pipe_transport, proc.stdout)
            if proc.stderr is not None:
                self._connect_pipe(ReadSubprocessPipeProto(self, 2), loop._make_read_pipe_transport, proc.stderr)
        except BaseException:
            self._forget_unconnected()
            raise
        self._pending_calls = None
        self._pipes_connected = True
        loop.call_soon(self._protocol.connection_made, self)
        await sleep(0)

    def _connect_pipe(self, protocol, make_transport, file):
        # close() looks for `pipe`, maybe before connection_made() has run.
        protocol.pipe = make_transport(file, protocol)
        self._pipes[protocol.fd] = protocol
        if self._loop.get_debug():
            kind = "Write" if protocol.fd == 0 else "Read"
            logger.debug("%s pipe %r connected: (%r, %r)", kind, file.fileno(), protocol.pipe, protocol)

    def _forget_unconnected(self):
        """Let close() and _wait() end what is there; a protocol that heard of no connection hears of no end."""
        self._pending_calls = None
        self._protocol = protocols.SubprocessProtocol()
        files = self._proc.stdin, self._proc.stdout, self._proc.stderr
        for fd in [fd for fd, protocol in self._pipes.items() if protocol is None]:
            del self._pipes[fd]
            files[fd].close()


def _connects_as_asyncio(loop):
    try:
        return (
            loop.connect_read_pipe.__func__ is BaseEventLoop.connect_read_pipe
            and loop.connect_write_pipe.__func__ is BaseEventLoop.connect_write_pipe
        )
    except AttributeError:  # no methods, but what a program put in their place
        return False


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
        transport = _SubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=extra, **kwargs
        )
        self._watch_process(transport)
        try:
            await transport.connect()
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
