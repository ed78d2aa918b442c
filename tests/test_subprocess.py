# SPDX-License-Identifier: MIT
"""Subprocesses: pipes both ways, exit codes, signals, many at once, in any thread."""

import ast
import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import pytest

from support import connection, open_fds, pattern, until, within

# What the tests themselves were started with.
INHERITABLE = {fd for fd in open_fds() if os.get_inheritable(fd)}

BIG = pattern(2 << 20)
CAT = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"


def python(code, *args, **kwargs):
    return asyncio.create_subprocess_exec(sys.executable, "-c", code, *args, **kwargs)


def assert_no_children():
    """Neither running ones nor zombies."""
    children = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children"
    if os.path.exists(children):
        with open(children) as file:
            assert file.read() == ""


async def test_exec(loop):
    process = await python("import sys; print(sys.argv[1]); sys.exit(7)", "an argument", stdout=PIPE)
    assert process.pid > 0 and process.returncode is None
    assert await process.communicate() == (b"an argument\n", None)
    assert process.returncode == 7
    assert await process.wait() == 7


async def test_shell(loop):
    process = await asyncio.create_subprocess_shell("echo out; echo err >&2; exit 3", stdout=PIPE, stderr=PIPE)
    assert await process.communicate() == (b"out\n", b"err\n")
    assert process.returncode == 3


@pytest.mark.parametrize("size", [0, 1, 65536, len(BIG)])
async def test_communicate_both_ways(loop, size):
    process = await python(CAT, stdin=PIPE, stdout=PIPE)
    out, _ = await process.communicate(BIG[:size])
    assert out == BIG[:size]
    assert process.returncode == 0


async def test_streams(loop):
    process = await python("for line in open(0): print(line.upper(), end='', flush=True)", stdin=PIPE, stdout=PIPE)
    for word in (b"one\n", b"two\n", b"three\n"):
        process.stdin.write(word)
        await process.stdin.drain()
        assert await process.stdout.readline() == word.upper()
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_stderr_into_stdout_and_devnull(loop):
    code = "import os; os.write(1, b'out '); os.write(2, b'err')"
    process = await python(code, stdout=PIPE, stderr=STDOUT)
    assert await process.communicate() == (b"out err", None)
    process = await python(code, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    assert await process.communicate() == (None, None)
    assert process.returncode == 0


async def test_environment_and_directory(loop, tmp_path):
    process = await python(
        "import os; print(os.getcwd(), os.environ['RLOOP_TEST'])",
        stdout=PIPE,
        cwd=tmp_path,
        env=os.environ | {"RLOOP_TEST": "value"},
    )
    out, _ = await process.communicate()
    assert out.decode() == f"{tmp_path.resolve()} value\n"


@pytest.mark.parametrize(
    "method, number", [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL), ("send_signal", signal.SIGUSR1)]
)
async def test_signals(loop, method, number):
    process = await asyncio.create_subprocess_exec("sleep", "100")
    getattr(process, method)(*([number] if method == "send_signal" else []))
    assert await process.wait() == -number
    with pytest.raises(ProcessLookupError):
        process.send_signal(number)


async def test_unknown_program(loop):
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)


async def test_wrong_arguments(loop):
    for wrong in (
        {"universal_newlines": True},
        {"shell": True},
        {"bufsize": 4096},
        {"text": True},
        {"encoding": "utf-8"},
    ):
        with pytest.raises(ValueError):
            await asyncio.create_subprocess_exec("true", **wrong)


async def test_many_at_once(loop):
    async def one(number):
        process = await asyncio.create_subprocess_shell(f"read x; echo $x; exit {number}", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(b"%d\n" % number)
        return out, process.returncode

    assert await asyncio.gather(*map(one, range(30))) == [(b"%d\n" % number, number) for number in range(30)]


async def test_several_tasks_wait_for_one(loop):
    process = await asyncio.create_subprocess_shell("sleep 0.05; exit 5")
    assert await asyncio.gather(*(process.wait() for _ in range(5))) == [5] * 5


async def test_cancelled_wait_leaves_the_process(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.02)
    assert process.returncode is None
    assert await process.communicate(b"still there") == (b"still there", None)
    assert process.returncode == 0


async def test_cancelled_communicate(loop):
    process = await asyncio.create_subprocess_exec("sleep", "100", stdout=PIPE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.communicate(), 0.02)
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_child_that_does_not_read_its_input(loop):
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    await process.communicate(BIG)
    assert process.returncode == 0


async def test_child_that_ends_while_a_grandchild_holds_its_output(loop):
    process = await asyncio.create_subprocess_shell("sleep 0.3 & echo out", stdout=PIPE)
    assert await process.stdout.readline() == b"out\n"
    await process.stdout.read()
    assert await process.wait() == 0


def test_in_a_thread(loop_factory, no_leaks):
    """Neither the main thread nor SIGCHLD is needed."""
    results = []

    async def main():
        process = await python(CAT, stdin=PIPE, stdout=PIPE)
        results.append(await process.communicate(b"hello"))
        results.append(process.returncode)

    def work():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(within(main()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert results == [(b"hello", None), 0]


async def test_the_child_can_open_dev_stdin(loop):
    """Its input must be a pipe, not a socket, which can't be opened by name."""
    process = await asyncio.create_subprocess_shell("cat /dev/stdin", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"through the name") == (b"through the name", None)
    process = await asyncio.create_subprocess_shell("echo out > /dev/stdout", stdout=PIPE)
    assert (await process.communicate())[0] == b"out\n"


async def test_the_childs_files_are_blocking(loop):
    code = "import os; print([os.get_blocking(fd) for fd in range(3)])"
    process = await python(code, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, _ = await process.communicate()
    assert out == b"[True, True, True]\n"


async def test_no_file_descriptors_are_inherited(loop):
    """Neither the loop's own nor those of its connections, even without close_fds."""
    async with connection() as pair:
        new = {fd for fd in open_fds() if fd > 2} - INHERITABLE
        assert pair.client.get_extra_info("socket").fileno() in new
        assert [fd for fd in new if os.get_inheritable(fd)] == []
        code = "import os; print([int(fd) for fd in os.listdir('/dev/fd')])"
        process = await python(code, stdout=PIPE, close_fds=False)
        out, _ = await process.communicate()
        extra = set(ast.literal_eval(out.decode())) - INHERITABLE - {0, 1, 2}
        assert len(extra) <= 1  # that of listdir itself


async def test_pass_fds(loop):
    read, write = os.pipe()
    process = await python(f"import os; os.write({write}, b'passed')", pass_fds=[write])
    os.close(write)
    assert await process.wait() == 0
    assert os.read(read, 100) == b"passed"
    os.close(read)


async def test_protocol_level(loop):
    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.events = []
            self.exited = loop.create_future()
            self.lost = loop.create_future()

        def connection_made(self, transport):
            self.events.append("made")

        def pipe_data_received(self, fd, data):
            self.events.append((fd, data))

        def pipe_connection_lost(self, fd, exc):
            self.events.append(("pipe lost", fd))

        def process_exited(self):
            self.exited.set_result(None)

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    transport, protocol = await loop.subprocess_exec(
        Protocol, sys.executable, "-c", "import os; os.write(1, b'out'); os.write(2, b'err'); os._exit(9)", stdin=None
    )
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert transport.get_pid() > 0
    assert transport.get_pipe_transport(0) is None
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert isinstance(transport.get_extra_info("subprocess"), subprocess.Popen)
    await protocol.exited
    assert await protocol.lost is None
    assert transport.get_returncode() == 9
    assert protocol.events[0] == "made"
    assert {(1, b"out"), (2, b"err"), ("pipe lost", 1), ("pipe lost", 2)} == set(protocol.events[1:])
    transport.close()


async def test_order_of_the_beginning(loop):
    """connection_made() comes once, before data and before the caller goes on, and the pipes are there by then."""
    events = []

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            events.append(("made", [transport.get_pipe_transport(fd) is not None for fd in (0, 1, 2)]))
            transport.get_pipe_transport(0).write(b"x")

        def pipe_data_received(self, fd, data):
            events.append((fd, data))

        def process_exited(self):
            events.append("exited")

        def connection_lost(self, exc):
            events.append("lost")
            done.set_result(None)

    done = loop.create_future()
    code = "import os; os.write(2, b'err'); assert os.read(0, 1) == b'x'"
    transport, _ = await loop.subprocess_exec(Protocol, sys.executable, "-c", code)
    events.append("returned")
    await done
    assert events[:2] == [("made", [True] * 3), "returned"]
    assert sorted(events[2:-1], key=str) == [(2, b"err"), "exited"]
    assert events[-1] == "lost"
    transport.close()


async def test_connection_made_that_fails_is_reported(loop, loop_errors):
    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            raise ZeroDivisionError

    transport, _ = await loop.subprocess_exec(Protocol, "true", stdin=None, stdout=None, stderr=None)
    assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)
    assert await transport._wait() == 0
    transport.close()


async def test_replaced_connect_read_pipe_is_called(loop):
    connect_read_pipe, pipes = loop.connect_read_pipe, []

    async def connect(protocol_factory, pipe):
        result = await connect_read_pipe(protocol_factory, pipe)
        pipes.append(result[0])
        return result

    loop.connect_read_pipe = connect
    process = await asyncio.create_subprocess_exec("echo", "out", stdout=PIPE)
    assert pipes == [process._transport.get_pipe_transport(1)]
    assert await process.communicate() == (b"out\n", None)


@pytest.mark.ours  # asyncio's waits for ever, at least in 3.12 and 3.13.0
@pytest.mark.parametrize("failing", ["_make_write_pipe_transport", "_make_read_pipe_transport"])
async def test_a_pipe_that_cannot_be_connected(loop, failing):
    """The error reaches the caller; the process is killed, its files are closed and its protocol hears nothing."""

    def fail(*args):
        raise OSError(errno.EMFILE, "no more files")

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            raise AssertionError

        connection_lost = pipe_connection_lost = process_exited = connection_made

    setattr(loop, failing, fail)
    fds = open_fds()
    with pytest.raises(OSError, match="no more files"):
        await loop.subprocess_exec(Protocol, "sleep", "100")
    assert open_fds() == fds
    assert_no_children()


async def test_close_kills_the_process(loop):
    transport, protocol = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "100")
    pid = transport.get_pid()
    transport.close()
    assert transport.is_closing()

    def has_gone():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True

    await until(has_gone)


async def test_child_reaped_by_somebody_else(loop, caplog):
    process = await asyncio.create_subprocess_exec("sleep", "0.05")
    os.waitpid(process.pid, 0)
    assert await process.wait() == 255
    assert any("exit status already read" in record.getMessage() for record in caplog.records)


async def test_stop_and_continue(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    process.send_signal(signal.SIGSTOP)
    process.stdin.write(b"x\n")
    reading = asyncio.create_task(process.stdout.readline())
    await asyncio.sleep(0.05)
    assert process.returncode is None and not reading.done()
    process.send_signal(signal.SIGCONT)
    assert await reading == b"x\n"
    process.stdin.close()
    assert await process.wait() == 0


async def test_start_cancelled(loop):
    """A task that is cancelled while it starts a process leaves no process behind."""
    for delay in (0, 1, 2, 3):
        task = asyncio.create_task(asyncio.create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            continue
        process.kill()
        await process.wait()
    assert_no_children()
