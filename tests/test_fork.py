# SPDX-License-Identifier: MIT
"""A forked child has its own loop, and whatever it does with its copy of the parent's leaves the parent's alone."""

import pytest

from support import run_program

PARENT = """
import logging
warnings.simplefilter("ignore", ResourceWarning)
warnings.simplefilter("ignore", DeprecationWarning)

def fork(run):
    "Run `run` in a child; its exit status must be 0."
    child = os.fork()
    if not child:
        try:
            run()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        end_process()
    assert os.waitpid(child, 0)[1] == 0

async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()

async def answer(streams, text):
    reader, writer = streams
    writer.write(text)
    assert await asyncio.wait_for(reader.readexactly(len(text)), 10) == text
"""

CONNECTED = (
    PARENT
    + """
loop = new_loop()
async def start():
    global server, streams
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    streams = await asyncio.open_connection(*server.sockets[0].getsockname())
    await answer(streams, b"before")
loop.run_until_complete(start())
watched = socket.socketpair()
seen = []
loop.add_reader(watched[0], lambda: seen.append(watched[0].recv(100)))
loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
loop.run_until_complete(asyncio.sleep(0.01))

def child():
    {child}
fork(child)

async def go_on():
    await answer(streams, b"after")
    other = await asyncio.open_connection(*server.sockets[0].getsockname())
    await answer(other, b"a new one")
    watched[1].send(b"still watched")
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_in_executor(None, loop.call_soon_threadsafe, seen.append, "thread")
    await until(lambda: len(seen) == 3, 10)
    for reader, writer in (streams, other):
        writer.close()
        await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.01)
loop.run_until_complete(go_on())
print(sorted(map(str, seen)))
loop.remove_reader(watched[0])
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
)

OK = "[\"b'still watched'\", 'signal', 'thread']\n"


@pytest.mark.parametrize(
    "child",
    [
        "pass",
        "loop.close()",
        "streams[1].transport.abort(); loop.close()",
        "server.close(); loop.close()",
        "global loop, server, streams; logging.disable(); del loop, server, streams; gc.collect()",
        "loop.call_soon_threadsafe(int); loop.call_soon(int); loop.close()",
        "loop.remove_signal_handler(signal.SIGUSR1); loop.close()",
        "loop.remove_reader(watched[0]); streams[1].transport.pause_reading(); streams[1].transport.close()",
        "other = new_loop(); other.run_until_complete(asyncio.sleep(0.01)); other.close(); loop.close()",
    ],
)
@pytest.mark.ours("the child of an asyncio program takes the parent's files out of the epoll that they share")
def test_child_leaves_the_parents_loop_alone(loop_spec, child):
    assert run_program(loop_spec, CONNECTED.replace("{child}", child)) == OK


def test_child_that_does_nothing(loop_spec):
    assert run_program(loop_spec, CONNECTED.replace("{child}", "pass")) == OK


def test_new_loop_in_the_child(loop_spec):
    out = run_program(
        loop_spec,
        PARENT
        + """
loop = new_loop()
loop.run_until_complete(asyncio.sleep(0.001))
def child():
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        streams = await asyncio.open_connection(*server.sockets[0].getsockname())
        await answer(streams, b"in the child")
        assert await asyncio.get_running_loop().run_in_executor(None, lambda: 5) == 5
        streams[1].close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
for _ in range(3):
    fork(child)
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()
print("end")
""",
    )
    assert out == "end\n"


def test_fork_inside_a_running_loop(loop_spec):
    """The child has no running loop and can make one."""
    out = run_program(
        loop_spec,
        PARENT
        + """
def child():
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(asyncio.sleep(0.001, 5)) == 5
async def main():
    await asyncio.sleep(0.001)
    fork(child)
    assert asyncio.get_running_loop().is_running()
    await asyncio.sleep(0.001)
    print("end")
with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
""",
    )
    assert out == "end\n"


def test_a_handler_that_the_child_adds_is_called(loop_spec):
    """The parent's handlers are the parent's, and so is the fd by which it hears of signals."""
    out = run_program(
        loop_spec,
        PARENT
        + """
seen = []
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, seen.append, "parent")
loop.run_until_complete(asyncio.sleep(0.001))
def child():
    signal.alarm(20)
    loop.add_signal_handler(signal.SIGUSR2, lambda: (seen.append("child"), loop.stop()))
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
    loop.run_forever()
    assert seen == ["child"]
fork(child)
loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
loop.run_until_complete(asyncio.sleep(0.05))
print(seen)
loop.close()
""",
    )
    assert out == "['parent']\n"


@pytest.mark.parametrize("use", ["loop.close()", "loop.run_until_complete(done)"])
def test_a_callback_that_forks_is_still_run_by_its_loop(loop_spec, use):
    """In the child too, where the loop can go on, but neither end nor run once more inside."""
    out = run_program(
        loop_spec,
        PARENT
        + f"""
def main():
    global child
    child = os.fork()
    if not child:
        signal.alarm(20)
        assert loop.is_running()
        try:
            {use}
        except RuntimeError as error:
            seen.append(str(error))
    loop.call_soon(seen.append, "next")
    loop.call_soon(loop.stop)
loop, seen = new_loop(), []
done = loop.create_future()
done.set_result(None)
loop.call_soon(main)
loop.run_forever()
assert not loop.is_running()
loop.close()
if not child:
    print(*seen, sep="\\n", flush=True)
    end_process()
assert os.waitpid(child, 0)[1] == 0
assert seen == ["next"]
""",
    )
    said = "Cannot close a running event loop" if "close" in use else "This event loop is already running"
    assert out.splitlines() == [said, "next"]


def test_a_forked_child_that_goes_on_waiting_is_interrupted(loop_spec):
    out = run_program(
        loop_spec,
        PARENT
        + """
def interrupt():
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
def main():
    global child
    child = os.fork()
    if child:
        loop.stop()
    else:
        signal.alarm(20)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=interrupt).start()
loop = new_loop()
loop.call_soon(main)
try:
    loop.run_forever()
except KeyboardInterrupt:
    os._exit(child != 0)
assert os.waitpid(child, 0)[1] == 0
loop.close()
print("end")
""",
    )
    assert out == "end\n"


@pytest.mark.ours("asyncio's loop takes itself for running, in a thread that the child has not")
@pytest.mark.parametrize("doing", ["waiting", "in a callback"])
def test_fork_by_another_thread(loop_spec, doing):
    """The thread that runs the loop isn't in the child: there the loop runs nowhere, and can be run."""
    out = run_program(
        loop_spec,
        PARENT
        + f"""
def child():
    signal.alarm(20)
    for _ in range(2):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "threadsafe"))
        loop.call_later(0.02, thread.start)
        loop.call_later(0.1, loop.stop)
        loop.run_forever()
        thread.join()
    loop.close()
    assert seen == ["threadsafe"] * 2, seen
def main():
    begun.wait()
    time.sleep(0.1)
    fork(child)
    ended.set()
    loop.call_soon_threadsafe(loop.stop)
loop, seen, begun, ended = new_loop(), [], threading.Event(), threading.Event()
thread = threading.Thread(target=main)
thread.start()
loop.call_soon(begun.set)
if {doing!r} != "waiting":
    loop.call_soon(ended.wait)
loop.call_later(60, print, "late")
loop.run_forever()
thread.join()
loop.close()
print("end")
""",
    )
    assert out == "end\n"


@pytest.mark.ours("which of the two processes reads the byte that wakes asyncio's loop is chance")
def test_fork_while_the_loop_is_being_woken(loop_spec):
    """What another thread had handed in is there in the child too, which hears of the next one as well."""
    out = run_program(
        loop_spec,
        PARENT
        + """
def wake():
    time.sleep(0.1)
    loop.call_soon_threadsafe(seen.append, "after")
    loop.call_soon_threadsafe(loop.stop)
def main():
    global child
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "before"))
    thread.start()
    thread.join()
    child = os.fork()
    if child:
        loop.call_soon(loop.stop)
    else:
        signal.alarm(20)
        threading.Thread(target=wake).start()
loop, seen = new_loop(), []
loop.call_soon(main)
loop.run_forever()
if not child:
    end_process(seen != ["before", "after"])
assert os.waitpid(child, 0)[1] == 0
loop.close()
print(seen)
""",
    )
    assert out == "['before']\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(loop_spec, tmp_path, method):
    """Workers that run loops, started from a program that has one."""
    path = tmp_path / "program.py"
    path.write_text(f"""
import asyncio, multiprocessing, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
sys.path.insert(0, {__file__.rsplit("/", 1)[0]!r})
from support import load

def work(number):
    with asyncio.Runner(loop_factory=load({loop_spec!r})) as runner:
        return runner.run(asyncio.sleep(0.001, number * number))

async def main():
    loop = asyncio.get_running_loop()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(await loop.run_in_executor(None, pool.map, work, range(5)))
        pool.close()
        pool.join()

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=load({loop_spec!r})) as runner:
        runner.run(main())
""")
    out = run_program(loop_spec, f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')")
    assert out == "[0, 1, 4, 9, 16]\n"


def test_process_pool_executor(loop_spec):
    out = run_program(
        loop_spec,
        """
warnings.simplefilter("ignore", DeprecationWarning)
import concurrent.futures, multiprocessing
async def main():
    loop = asyncio.get_running_loop()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        print(await asyncio.gather(*(loop.run_in_executor(pool, pow, 2, number) for number in range(5))))
with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
""",
    )
    assert out == "[1, 2, 4, 8, 16]\n"


def test_signals_of_the_child_are_its_own(loop_spec):
    """SIGINT in a forked child does not reach the parent's loop through a shared wakeup fd."""
    out = run_program(
        loop_spec,
        PARENT
        + """
seen = []
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, seen.append, "parent")
loop.run_until_complete(asyncio.sleep(0.001))
def child():
    signal.signal(signal.SIGUSR1, lambda *args: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
fork(child)
loop.run_until_complete(asyncio.sleep(0.05))
print(seen)
loop.close()
""",
    )
    assert out == "[]\n"
