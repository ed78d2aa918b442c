# SPDX-License-Identifier: MIT
"""add_reader and add_writer: the callbacks, the file descriptors' kinds, what happens when they close."""

import asyncio
import contextvars
import fcntl
import os
import pty
import select
import socket
import threading
import time

import pytest

from support import connection, run_program, turns, until


def socket_pair_at(number):
    """Two connected sockets, the first of which has this free file descriptor."""
    left, right = socket.socketpair()
    if right.fileno() == number:
        return right, left
    if left.fileno() != number:
        os.dup2(left.fileno(), number)
        left.close()
        left = socket.socket(fileno=number)
    return left, right


async def test_reader_is_called_while_there_is_something_to_read(loop, socket_pair):
    left, right = socket_pair
    seen = []

    def read():
        seen.append(left.recv(1))

    loop.add_reader(left, read)
    right.send(b"abc")
    await until(lambda: len(seen) == 3)
    await asyncio.sleep(0.01)
    assert seen == [b"a", b"b", b"c"]
    assert loop.remove_reader(left) is True


async def test_writer_is_called_while_there_is_room(loop, socket_pair):
    left, right = socket_pair
    calls = []
    loop.add_writer(left, calls.append, 1)
    await until(lambda: len(calls) >= 3)
    assert loop.remove_writer(left) is True
    seen = len(calls)
    await turns()
    assert len(calls) == seen


async def test_writer_waits_for_room(loop, socket_pair):
    left, right = socket_pair
    with pytest.raises(BlockingIOError):
        while True:
            left.send(bytes(65536))
    calls = []
    loop.add_writer(left, calls.append, 1)
    await asyncio.sleep(0.02)
    assert calls == []
    with pytest.raises(BlockingIOError):
        while True:
            right.recv(65536)
    await until(lambda: calls)
    loop.remove_writer(left)


async def test_both_directions_of_one_fd(loop, socket_pair):
    left, right = socket_pair
    read, written = [], []
    loop.add_reader(left, lambda: read.append(left.recv(10)))
    loop.add_writer(left, lambda: (written.append(1), loop.remove_writer(left)))
    right.send(b"x")
    await until(lambda: read and written)
    right.send(b"y")
    await until(lambda: len(read) == 2)
    assert loop.remove_writer(left) is False
    assert loop.remove_reader(left) is True
    assert len(written) == 1


async def test_return_values(loop, socket_pair):
    left, _ = socket_pair
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is False
    assert loop.add_reader(left, int) is None
    assert loop.add_writer(left, int) is None
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is True
    assert loop.remove_writer(left) is False


async def test_a_new_callback_replaces_the_old(loop, socket_pair):
    left, right = socket_pair
    seen = []
    right.send(b"x")
    loop.add_reader(left, seen.append, "old")
    loop.add_reader(left, lambda name: (seen.append(name), left.recv(10)), "new")
    await until(lambda: seen)
    assert seen == ["new"]
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


class Ending:
    """A callback that does something when it is dropped."""

    def __init__(self, act):
        self.act = act

    def __call__(self):
        pass

    def __del__(self):
        self.act()


def test_replaced_callback_whose_end_closes_the_loop(loop, socket_pair):
    left, _ = socket_pair
    loop.add_reader(left, Ending(loop.close))
    loop.add_reader(left, int)
    assert loop.is_closed()


async def test_replaced_callback_whose_end_watches_another_file(loop):
    """The new file's number is far beyond all before; the old one is a transport's by then."""
    left, right = socket.socketpair()
    far = fcntl.fcntl(right, fcntl.F_DUPFD_CLOEXEC, 700)
    left.setblocking(False)
    loop.add_reader(left, Ending(lambda: loop.add_reader(far, int)))
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(transport.get_extra_info("socket"), int)
    loop.remove_reader(far)
    os.close(far)
    transport.abort()
    right.close()
    await turns()


async def test_fd_numbers_and_objects_mean_the_same(loop, socket_pair):
    left, right = socket_pair
    seen = []
    loop.add_reader(left.fileno(), lambda: seen.append(left.recv(10)))
    right.send(b"x")
    await until(lambda: seen)
    assert loop.remove_reader(left) is True


async def test_things_that_are_no_file(loop):
    for wrong in ("text", 1.5, None, object(), -1):
        with pytest.raises(ValueError, match="Invalid file"):
            loop.add_reader(wrong, int)


async def test_closed_file_object(loop, socket_pair):
    left, _ = socket_pair
    left.close()
    with pytest.raises(ValueError, match="Invalid file"):
        loop.add_reader(left, int)


async def test_closed_fd_number(loop):
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(OSError):
            add(fd, int)
    assert loop.remove_reader(fd) is False


async def test_a_callback_is_needed(loop, socket_pair):
    left, _ = socket_pair
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(TypeError):
            add(left)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="kqueue watches regular files")
async def test_regular_file_is_refused(loop, tmp_path):
    with open(tmp_path / "file", "w+") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, int)
        with pytest.raises(PermissionError):
            loop.add_writer(file, int)
        assert loop.remove_reader(file) is False


async def test_remove_in_the_own_callback(loop, socket_pair):
    left, right = socket_pair
    seen = []
    loop.add_reader(left, lambda: seen.append(loop.remove_reader(left)))
    right.send(b"x")
    await until(lambda: seen)
    await asyncio.sleep(0.01)
    assert seen == [True]


async def test_each_of_two_ready_readers_removes_the_other(loop):
    pairs = [socket.socketpair() for _ in range(2)]
    seen = []

    def ready(number):
        seen.append(number)
        loop.remove_reader(pairs[0][0])
        loop.remove_reader(pairs[1][0])

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, ready, number)
        right.send(b"x")
    await until(lambda: seen)
    await asyncio.sleep(0.02)
    assert len(seen) == 1
    for pair in pairs:
        for sock in pair:
            sock.close()


async def test_reader_removes_the_writer_of_the_same_fd(loop, socket_pair):
    left, right = socket_pair
    right.send(b"x")
    seen = []
    loop.add_reader(left, lambda: (seen.append("read"), loop.remove_writer(left), loop.remove_reader(left)))
    loop.add_writer(left, seen.append, "write")
    await until(lambda: "read" in seen)
    await turns()
    assert seen in (["read"], ["write", "read"])


async def test_add_and_remove_again_and_again(loop, socket_pair):
    left, right = socket_pair
    for _ in range(200):
        done = loop.create_future()
        loop.add_reader(left, done.set_result, None)
        right.send(b"x")
        await done
        assert left.recv(10) == b"x"
        assert loop.remove_reader(left) is True


async def test_hang_up_is_readable_and_writable(loop, socket_pair):
    left, right = socket_pair
    read, written = [], []
    loop.add_reader(left, lambda: (read.append(left.recv(10)), loop.remove_reader(left)))
    loop.add_writer(left, lambda: (written.append(1), loop.remove_writer(left)))
    right.close()
    await until(lambda: read and written)
    assert read == [b""]


async def test_write_end_of_a_pipe_hears_that_the_reader_left(loop):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, bytes(65536))
    seen = []
    loop.add_writer(write, lambda: (seen.append(1), loop.remove_writer(write)))
    await asyncio.sleep(0.01)
    assert seen == []
    os.close(read)
    await until(lambda: seen)
    os.close(write)


@pytest.mark.ours("asyncio's selector takes the new file for the old one and never reports it")
async def test_fd_closed_while_watched_and_its_number_used_again(loop):
    """The number's next owner gets its own events only."""
    left, right = socket.socketpair()
    old, new = [], []
    loop.add_reader(left, old.append, 1)
    await turns()
    number = left.fileno()
    left.close()
    right.close()
    left, right = socket_pair_at(number)
    loop.add_reader(left, lambda: new.append(left.recv(10)))
    right.send(b"x")
    await until(lambda: new)
    assert (old, new) == ([], [b"x"])
    assert loop.remove_reader(left) is True
    left.close()
    right.close()


async def test_remove_after_the_fd_was_closed(loop):
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(number, int)
    await turns()
    left.close()
    assert loop.remove_reader(number) is True
    right.close()
    await turns()


async def test_transports_fd_is_refused(loop):
    async with connection() as pair:
        sock = pair.client.get_extra_info("socket")
        message = f"File descriptor {sock.fileno()}.*is used by transport"
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=message):
                method(sock.fileno(), int)
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=message):
                method(sock.fileno())


async def test_fd_is_free_again_after_its_transport(loop):
    async with connection() as pair:
        number = pair.client.get_extra_info("socket").fileno()
        pair.client.abort()
        await pair.client_protocol.lost
    left, right = socket_pair_at(number)
    seen = []
    loop.add_reader(number, lambda: seen.append(os.read(number, 10)))
    right.send(b"x")
    await until(lambda: seen)
    assert loop.remove_reader(number) is True
    left.close()
    right.close()


async def test_exception_reaches_the_handler_and_the_watch_stays(loop, loop_errors, socket_pair):
    left, right = socket_pair

    def fail():
        left.recv(1)
        raise ZeroDivisionError

    loop.add_reader(left, fail)
    right.send(b"xy")
    await until(lambda: len(loop_errors) == 2)
    assert all(isinstance(context["exception"], ZeroDivisionError) for context in loop_errors)
    assert all(isinstance(context["handle"], asyncio.Handle) for context in loop_errors)
    assert all(context["message"].startswith("Exception in callback ") for context in loop_errors)
    loop_errors.clear()
    loop.remove_reader(left)


async def test_callback_runs_in_the_context_of_its_registration(loop, socket_pair):
    left, right = socket_pair
    variable = contextvars.ContextVar("variable")
    variable.set("then")
    seen = []
    loop.add_reader(left, lambda: (left.recv(10), seen.append(variable.get())))
    variable.set("later")
    right.send(b"x")
    await until(lambda: seen)
    loop.remove_reader(left)
    assert seen == ["then"]


async def test_callbacks_registered_before_the_event_run_first(loop, socket_pair):
    left, right = socket_pair
    seen = []
    loop.add_reader(left, lambda: (left.recv(10), seen.append("reader")))
    right.send(b"x")
    loop.call_soon(seen.append, "callback")
    await until(lambda: len(seen) == 2)
    loop.remove_reader(left)
    assert seen == ["callback", "reader"]


def test_watches_are_not_closed_loops_business(loop_factory, socket_pair, no_leaks):
    left, right = socket_pair
    loop = loop_factory()
    loop.add_reader(left, int)
    loop.close()
    assert left.fileno() >= 0
    right.send(b"x")
    assert left.recv(10) == b"x"
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_reader(left, int)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_writer(left, int)
    assert loop.remove_reader(left) is False


async def test_flags_of_the_fd_stay_as_they_were(loop):
    left, right = socket.socketpair()
    loop.add_reader(left, int)
    loop.add_writer(left, int)
    await turns()
    assert os.get_blocking(left.fileno())
    loop.remove_reader(left)
    loop.remove_writer(left)
    await turns()
    assert os.get_blocking(left.fileno())
    left.close()
    right.close()


async def test_terminal_stays_blocking(loop):
    ours, theirs = pty.openpty()
    seen = []
    loop.add_reader(theirs, lambda: seen.append(os.read(theirs, 100)))
    os.write(ours, b"a line\n")
    await until(lambda: seen)
    assert seen == [b"a line\n"]
    assert os.get_blocking(theirs)
    assert loop.remove_reader(theirs)
    assert os.get_blocking(theirs)
    os.close(ours)
    os.close(theirs)


def test_stdin_terminal_stays_blocking(loop_spec):
    """The terminal belongs to the shell, too: its flags are shared."""
    ours, theirs = pty.openpty()
    out = []

    def work():
        out.append(
            run_program(
                loop_spec,
                """
loop = new_loop()
loop.add_reader(sys.stdin, lambda: (print(sys.stdin.readline().strip()), loop.stop()))
print(os.get_blocking(0))
loop.run_forever()
print(os.get_blocking(0))
loop.remove_reader(sys.stdin)
loop.close()
print(os.get_blocking(0))
""",
                stdin=theirs,
            )
        )

    thread = threading.Thread(target=work)
    thread.start()
    os.write(ours, b"typed\n")
    thread.join()
    assert out == ["True\ntyped\nTrue\nTrue\n"]
    assert os.get_blocking(theirs)
    os.close(ours)
    os.close(theirs)


async def test_a_watch_that_waits_costs_no_cpu(loop, socket_pair):
    left, right = socket_pair
    loop.add_reader(left, int)
    loop.add_writer(left, int)
    await turns()
    loop.remove_writer(left)
    before = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - before < 0.15
    loop.remove_reader(left)


async def test_removed_interest_in_what_is_ready_costs_no_cpu(loop, socket_pair):
    left, right = socket_pair
    loop.add_reader(left, int)
    right.send(b"never read")
    await turns()
    loop.remove_reader(left)
    before = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - before < 0.15


async def test_hundreds_of_fds(loop):
    pairs = [socket.socketpair() for _ in range(300)]
    seen = []
    for number, (left, _) in enumerate(pairs):
        loop.add_reader(left, lambda number=number, left=left: seen.append((number, left.recv(10))))
    for number, (_, right) in enumerate(pairs):
        right.send(str(number).encode())
    await until(lambda: len(seen) == len(pairs))
    assert sorted(seen) == [(number, str(number).encode()) for number in range(len(pairs))]
    for left, right in pairs:
        assert loop.remove_reader(left) is True
        left.close()
        right.close()


class File:
    """Its fileno() gives, or raises, what it is told."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        if isinstance(self.number, BaseException):
            raise type(self.number)(*self.number.args)  # a new one: it keeps the traceback of each time
        return self.number

    def __repr__(self):
        return "a file"


METHODS = [("add_reader", "remove_reader"), ("add_writer", "remove_writer")]


@pytest.mark.parametrize("add, remove", METHODS)
@pytest.mark.parametrize(
    "what, error, message",
    [
        (-1, ValueError, "Invalid file descriptor: -1"),
        (-(1 << 40), ValueError, "Invalid file descriptor: -1099511627776"),
        (-(1 << 80), ValueError, f"Invalid file descriptor: {-(1 << 80)}"),
        ("text", ValueError, "Invalid file object: 'text'"),
        (1.5, ValueError, "Invalid file object: 1.5"),
        (None, ValueError, "Invalid file object: None"),
        (File(-5), ValueError, "Invalid file descriptor: -5"),
        (File(-(1 << 40)), ValueError, "Invalid file descriptor: -1099511627776"),
        (File("text"), ValueError, "Invalid file object: a file"),
        (File(None), ValueError, "Invalid file object: a file"),
        (File(AttributeError("x")), ValueError, "Invalid file object: a file"),
        (File(ValueError("x")), ValueError, "Invalid file object: a file"),
        (File(OSError("lost")), OSError, "lost"),
        (File(KeyError(5)), KeyError, "5"),
    ],
    ids=str,
)
def test_what_is_no_file(loop, add, remove, what, error, message):
    for method, arguments in ((add, (what, int)), (remove, (what,))):
        with pytest.raises(error) as raised:
            getattr(loop, method)(*arguments)
        assert str(raised.value) == message


@pytest.mark.parametrize("add, remove", METHODS)
@pytest.mark.parametrize("what", [1 << 40, 1 << 80, File(1 << 40)], ids=str)
def test_a_number_that_no_file_has(loop, add, remove, what):
    with pytest.raises(OverflowError):
        getattr(loop, add)(what, int)
    assert getattr(loop, remove)(what) is False


@pytest.mark.parametrize("number", [str, float])
def test_the_number_of_a_file_in_another_form(loop, socket_pair, number):
    left, right = socket_pair
    loop.add_reader(File(number(left.fileno())), loop.stop)
    right.send(b"x")
    loop.run_forever()
    assert loop.remove_reader(left) is True


@pytest.mark.parametrize("add, remove", METHODS)
def test_closed_loops_watch_nothing(loop, add, remove, socket_pair):
    """Its being closed is said before what is wrong with a number, and after what is wrong with an object."""
    loop.close()
    closed = socket.socket()
    closed.close()
    for what in (-1, File(-1), closed, socket_pair[0]):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            getattr(loop, add)(what, int)
        assert getattr(loop, remove)(what) is False
    for method, arguments in ((add, ("text", int)), (remove, ("text",))):
        with pytest.raises(ValueError, match="^Invalid file object: 'text'$"):
            getattr(loop, method)(*arguments)


def test_a_socket_that_was_closed_is_found_again(loop, socket_pair):
    """A program that closes first and removes afterwards names the object, which has no number any more."""
    for sock, add, remove in zip(socket_pair, *zip(*METHODS, strict=True), strict=True):
        getattr(loop, add)(sock, int)
        sock.close()
        assert getattr(loop, remove)(sock) is True
        with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
            getattr(loop, remove)(sock)


@pytest.mark.parametrize("add", ["add_reader", "add_writer"])
@pytest.mark.parametrize("number", [1 << 16, (1 << 31) - 1])
def test_number_of_no_file(loop, add, number):
    """However large it is, the answer is the kernel's, and costs no memory for the numbers below."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, add)(number, int)


@pytest.mark.parametrize(
    "arguments, missing",
    [
        ((), "2 required positional arguments: 'fd' and 'callback'"),
        ((0,), "1 required positional argument: 'callback'"),
    ],
)
def test_missing_arguments(loop, arguments, missing):
    for name in ("add_reader", "add_writer"):
        with pytest.raises(TypeError) as raised:
            getattr(loop, name)(*arguments)
        assert str(raised.value) == f"BaseSelectorEventLoop.{name}() missing {missing}"


@pytest.mark.parametrize("add, remove", METHODS)
def test_debug_mode_shows_a_removed_callback(loop, add, remove, socket_pair):
    """It keeps its repr(); an exception of that is the caller's."""

    class Callback:
        def __call__(self):
            pass

        def __repr__(self):
            raise ZeroDivisionError("no repr")

    loop.set_debug(True)
    getattr(loop, add)(socket_pair[0], Callback())
    with pytest.raises(ZeroDivisionError, match="no repr"):
        getattr(loop, remove)(socket_pair[0])
    assert getattr(loop, remove)(socket_pair[0]) is False


def test_private_names_that_asyncio_itself_uses(loop, socket_pair):
    left, right = socket_pair
    called = []
    handle = loop._add_writer(left.fileno(), called.append, "writable")
    assert isinstance(handle, asyncio.Handle)
    loop._add_reader(left.fileno(), called.append, "readable")
    right.send(b"x")
    loop.run_until_complete(turns(3))
    assert loop._remove_writer(left.fileno()) and loop._remove_reader(left.fileno())
    assert not loop._remove_writer(left.fileno())
    assert set(called) == {"writable", "readable"}


def test_a_watch_whose_handle_is_cancelled(loop, socket_pair):
    left, right = socket_pair
    loop._add_reader(left.fileno(), int).cancel()
    loop._add_writer(left.fileno(), int).cancel()
    right.send(b"x")
    loop.run_until_complete(turns(3))
    assert not loop._remove_reader(left.fileno()) and not loop._remove_writer(left.fileno())
