# SPDX-License-Identifier: MIT
"""Signal handlers on the loop, Python's own beside them, Ctrl-C at any moment."""

import asyncio
import gc
import os
import signal
import socket
import threading
import time

import pytest

from support import LIMIT, LOOPS, load, program, run_program, started, until


@pytest.fixture(autouse=True)
def signals_as_before():
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)}
    yield
    assert signal.set_wakeup_fd(wakeup_fd) == wakeup_fd
    for number, handler in handlers.items():
        signal.signal(number, handler)


def me(number):
    os.kill(os.getpid(), number)


async def test_handler_runs_with_its_arguments(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda *args: seen.append(args), 1, "two")
    me(signal.SIGUSR1)
    await until(lambda: seen)
    assert seen == [(1, "two")]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


async def test_handler_runs_on_the_loop_not_in_the_middle_of_a_callback(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handler")
    me(signal.SIGUSR1)
    for _ in range(1000):
        pass
    seen.append("callback")
    await until(lambda: len(seen) == 2)
    assert seen == ["callback", "handler"]


async def test_new_handler_replaces_the_old(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "new")
    me(signal.SIGUSR1)
    await until(lambda: seen)
    assert seen == ["new"]


async def test_several_signals(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, seen.append, 2)
    for _ in range(3):
        me(signal.SIGUSR1)
        me(signal.SIGUSR2)
        await until(lambda: len(seen) % 2 == 0 and seen)
        await asyncio.sleep(0.005)
    assert set(seen) == {1, 2}


async def test_remove_restores_the_default(loop):
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.add_signal_handler(signal.SIGUSR1, int)
    assert signal.getsignal(signal.SIGUSR1) not in (signal.SIG_DFL, None)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.add_signal_handler(signal.SIGINT, int)
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_removed_handler_does_not_run(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "never")
    me(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR1)
    await asyncio.sleep(0.05)
    assert seen == []


def test_close_removes_the_handlers(loop_factory, no_leaks):
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


async def test_wrong_arguments(loop):
    with pytest.raises(TypeError, match="sig must be an int, not 'one'"):
        loop.add_signal_handler("one", int)
    with pytest.raises(ValueError, match="invalid signal number 1000"):
        loop.add_signal_handler(1000, int)
    with pytest.raises(ValueError, match="invalid signal number 1000"):
        loop.remove_signal_handler(1000)
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, int)
    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, asyncio.sleep)


def test_not_in_another_thread(loop_factory, no_leaks):
    raised = []

    def work():
        loop = loop_factory()
        try:
            loop.add_signal_handler(signal.SIGUSR1, int)
        except (RuntimeError, ValueError) as error:
            raised.append(error)
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [type(error) for error in raised] == [RuntimeError]


async def test_not_in_another_thread_while_the_loop_runs(loop):
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(loop.add_signal_handler, signal.SIGUSR1, int)
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


async def test_exception_of_a_handler_reaches_the_exception_handler(loop, loop_errors):
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    me(signal.SIGUSR1)
    await until(lambda: loop_errors)
    assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)


def test_python_handler_runs_while_the_loop_is_idle(loop):
    signal.signal(signal.SIGUSR1, lambda number, frame: loop.call_soon_threadsafe(loop.stop))
    threading.Timer(0.05, me, (signal.SIGUSR1,)).start()
    loop.run_forever()


@pytest.mark.ours("asyncio waits on until something else happens")
def test_python_handler_may_stop_an_idle_loop(loop):
    signal.signal(signal.SIGUSR1, lambda number, frame: loop.stop())
    threading.Timer(0.05, me, (signal.SIGUSR1,)).start()
    loop.call_later(10, int)
    before = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - before < 5


def test_exception_of_a_python_handler_leaves_run_forever(loop):
    class Signalled(Exception):
        pass

    def handler(number, frame):
        raise Signalled

    signal.signal(signal.SIGUSR1, handler)
    threading.Timer(0.05, me, (signal.SIGUSR1,)).start()
    with pytest.raises(Signalled):
        loop.run_forever()
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0.001, "works on")) == "works on"


def test_default_sigint_of_an_idle_loop(loop):
    threading.Timer(0.05, me, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0.001, "works on")) == "works on"


@pytest.mark.ours("asyncio puts its own wakeup fd in place and then -1")
def test_wakeup_fd_of_the_user_is_restored(loop):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        before = signal.set_wakeup_fd(left.fileno())
        try:
            loop.add_signal_handler(signal.SIGUSR1, loop.stop)
            loop.call_soon(me, signal.SIGUSR1)
            loop.run_forever()
            loop.remove_signal_handler(signal.SIGUSR1)
            loop.run_until_complete(asyncio.sleep(0))
            assert signal.set_wakeup_fd(left.fileno()) == left.fileno()
            loop.close()
            assert signal.set_wakeup_fd(left.fileno()) == left.fileno()
            signal.signal(signal.SIGUSR1, lambda number, frame: None)
            me(signal.SIGUSR1)
            right.setblocking(True)
            right.settimeout(LIMIT)
            assert signal.SIGUSR1 in right.recv(100)
        finally:
            signal.set_wakeup_fd(before)


@pytest.mark.parametrize("first", ["asyncio", "rloop"])
def test_loop_with_handlers_is_closed_while_another_one_runs(loop, first):
    """What set the wakeup fd before has closed it when the loop ends."""
    other = load(LOOPS[first])()
    other.add_signal_handler(signal.SIGUSR1, print)

    async def main():
        other.close()
        return "done"

    assert loop.run_until_complete(main()) == "done"
    loop.close()


def test_handler_whose_end_adds_another_one(loop_factory, no_leaks):
    class Handler:
        def __call__(self):
            pass

        def __del__(self):
            try:
                loop.add_signal_handler(signal.SIGUSR2, print)
            except RuntimeError as exc:
                refused.append(str(exc))

    refused = []
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, Handler())
    loop.close()
    gc.collect()
    assert refused == ["Event loop is closed"]
    assert signal.set_wakeup_fd(-1) == -1


def test_loop_without_handlers_leaves_the_users_wakeup_fd_alone(loop):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        before = signal.set_wakeup_fd(left.fileno())
        try:
            loop.run_until_complete(asyncio.sleep(0.001))
            assert signal.set_wakeup_fd(before) == left.fileno()
        finally:
            signal.set_wakeup_fd(before)


async def test_handler_comes_two_turns_after_the_signal(loop):
    """The loop reads the number in the next turn, after the callbacks, and calls in the one after that."""
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handler")
    for _ in range(5):
        await asyncio.sleep(0)
    me(signal.SIGUSR1)
    for turn in range(4):
        seen.append(turn)
        await asyncio.sleep(0)
    assert seen == [0, 1, 2, "handler", 3]
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "again")
    me(signal.SIGUSR1)
    for _ in range(4):
        await asyncio.sleep(0)
    assert seen[-1] == "again"


async def test_handler_does_not_hear_of_what_came_before_it(loop):
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("python"))
    me(signal.SIGUSR1)
    await asyncio.sleep(0)
    assert seen == ["python"]
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handler")
    await asyncio.sleep(0.01)
    assert seen == ["python"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_wakeup_fd_of_the_user_hears_of_signals_while_the_loop_is_busy(loop):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        before = signal.set_wakeup_fd(left.fileno())
        signal.signal(signal.SIGUSR1, lambda number, frame: None)

        async def main():
            me(signal.SIGUSR1)
            for _ in range(4):
                await asyncio.sleep(0)
            return right.recv(100)

        try:
            assert loop.run_until_complete(main()) == bytes([signal.SIGUSR1])
        finally:
            signal.set_wakeup_fd(before)


def test_signals_while_the_loop_is_busy(loop):
    """No signal is lost, and none is late for ever, when there is always something else to do."""
    seen = []
    going = True

    def again():
        if going:
            loop.call_soon(again)

    async def main():
        nonlocal going
        again()
        for count in range(1, 21):
            me(signal.SIGUSR1)
            await until(lambda: len(seen) == count)
        going = False

    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.run_until_complete(asyncio.wait_for(main(), LIMIT))


def test_signal_does_not_end_a_sleep_early(loop):
    loop.add_signal_handler(signal.SIGUSR1, int)
    threading.Timer(0.05, me, (signal.SIGUSR1,)).start()
    before = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.2))
    assert time.monotonic() - before >= 0.2 - 1e-6


IDLE = """
def send():
    time.sleep(0.3)
    global sent
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send).start()
"""


def test_sigint_on_an_idle_loop_is_seen_at_once(loop_spec):
    out = run_program(
        loop_spec,
        IDLE
        + """
loop = new_loop()
try:
    loop.run_forever()
except KeyboardInterrupt:
    print(time.monotonic() - sent < 0.2)
loop.close()
""",
    )
    assert out == "True\n"


def test_ctrl_c_cancels_the_main_task(loop_spec):
    out = run_program(
        loop_spec,
        IDLE
        + """
async def main():
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        print("cancelled", time.monotonic() - sent < 0.2)
        raise
try:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""",
    )
    assert out == "cancelled True\nKeyboardInterrupt\n"


def test_ctrl_c_while_the_main_task_computes(loop_spec):
    out = run_program(
        loop_spec,
        """
async def main():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            await asyncio.sleep(0)
    finally:
        print("finally")
try:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""",
    )
    assert out == "finally\nKeyboardInterrupt\n"


def test_second_ctrl_c_interrupts_even_a_task_that_does_not_listen(loop_spec):
    out = run_program(
        loop_spec,
        """
def interrupt():
    for _ in range(2):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
async def main():
    threading.Thread(target=interrupt).start()
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        time.sleep(1000)
try:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""",
    )
    assert out == "KeyboardInterrupt\n"


@pytest.mark.ours("asyncio's own loop is Python, which the interrupt tears")
def test_many_ctrl_cs_at_any_moment(loop_spec):
    """Each ends the run it falls into, and the loop can run again."""
    out = run_program(
        loop_spec,
        """
loop = new_loop()
def again():
    loop.call_soon(again)
loop.call_soon(again)
pings = socket.socketpair()
for sock in pings: sock.setblocking(False)
pings[0].send(b"x")
loop.add_reader(pings[1], lambda: pings[0].send(pings[1].recv(10)))
signal.signal(signal.SIGALRM, signal.default_int_handler)
caught = 0
while caught < 200:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.2)  # again, if it came where an exception is only printed
        loop.run_forever()
    except KeyboardInterrupt:
        caught += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
loop.call_later(0.01, loop.stop)
loop.run_forever()
loop.remove_reader(pings[1])
for sock in pings: sock.close()
loop.close()
print(caught)
""",
    )
    assert out == "200\n"


def test_sigterm_handler_stops_a_program(loop_spec):
    code = """
loop = new_loop()
loop.add_signal_handler(signal.SIGTERM, loop.stop)
loop.call_soon(lambda: print("ready", flush=True))
loop.run_forever()
loop.close()
print("stopped")
"""
    with started(program(loop_spec, code)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=LIMIT)
    assert (out, err, process.returncode) == ("stopped\n", "", 0)


def test_children_do_not_inherit_the_handlers(loop_spec):
    out = run_program(
        loop_spec,
        """
import subprocess
loop = new_loop()
loop.add_signal_handler(signal.SIGTERM, loop.stop)
child = subprocess.Popen(["sleep", "100"])
child.terminate()
print(child.wait())
loop.close()
""",
    )
    assert out == "-15\n"
