# SPDX-License-Identifier: MIT
"""What a Python version does otherwise than the one before: each test runs on all, and says what asyncio does there."""

import asyncio
import contextvars
import inspect
import socket
import subprocess
import sys
import threading
import time
from asyncio.base_events import BaseEventLoop, Server

import pytest

from support import LIMIT, Recorder, one_end, program, run_program, started, until

VAR = contextvars.ContextVar("VAR", default="unset")

TASK_KEYWORDS = inspect.signature(BaseEventLoop.create_task).parameters
TAKES_KEYWORDS = "kwargs" in TASK_KEYWORDS  # create_task(..., **kwargs), in later releases of 3.13, too
PASSES_KEYWORDS = TAKES_KEYWORDS and "name" not in TASK_KEYWORDS  # only those that were given, from 3.14 on
CANCEL_WAITS = sys.version_info >= (3, 14)  # Handle.cancel() of call_soon_threadsafe()
CLOSES_CLIENTS = "close_clients" in inspect.getsource(Server.serve_forever)  # when it is cancelled; 3.14, late 3.13
SERVER_HAS_CONTEXT = sys.version_info >= (3, 15)  # each connection's is a copy of it
HAS_PS = sys.version_info >= (3, 14)  # python -m asyncio ps


# --- create_task


def test_create_task_passes_keywords_to_the_factory(loop, run):
    seen = []

    def factory(loop, coro, **kwargs):
        seen.append(kwargs)
        return asyncio.Task(coro, loop=loop, **{name: kwargs[name] for name in kwargs if name != "own"})

    async def main():
        context = contextvars.copy_context()
        loop.set_task_factory(factory)
        first = loop.create_task(asyncio.sleep(0))
        second = loop.create_task(asyncio.sleep(0), name="second", context=context)
        await asyncio.gather(first, second)
        assert second.get_name() == "second"
        if PASSES_KEYWORDS:
            assert seen == [{}, {"name": "second", "context": context}]
            await loop.create_task(asyncio.sleep(0), own=1)
            assert seen[2:] == [{"own": 1}]

    run(main())


def test_create_task_takes_eager_start(loop, run):
    seen = []

    async def note(what):
        seen.append(what)

    async def main():
        coro = note("eager")
        if not TAKES_KEYWORDS:
            with pytest.raises(TypeError, match="eager_start"):
                loop.create_task(coro, eager_start=True)
            coro.close()
            return
        assert loop.create_task(coro, eager_start=True).done() and seen == ["eager"]
        task = loop.create_task(note("later"), eager_start=False)
        assert seen == ["eager"] and not task.done()
        await task
        if PASSES_KEYWORDS:
            async with asyncio.TaskGroup() as group:
                group.create_task(note("group"), eager_start=True)
                assert seen[-1] == "group"

    run(main())


def test_create_task_makes_tasks_of_a_replaced_type(loop, run, monkeypatch):
    """A program may put a type into asyncio.tasks; it is called as this version of asyncio calls it."""
    seen = []

    class Task(asyncio.Task):
        def __init__(self, coro, **kwargs):
            seen.append(sorted(kwargs))
            super().__init__(coro, **kwargs)

    async def main():
        await loop.create_task(asyncio.sleep(0))
        await loop.create_task(asyncio.sleep(0), name="name")

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    run(main())
    plain = ["loop"] if PASSES_KEYWORDS else ["context", "loop", "name"]
    assert seen[-2:] == [plain, ["loop", "name"] if PASSES_KEYWORDS else plain]


# --- handles of call_soon_threadsafe


def run_a_callback_and(loop, other):
    """A slow callback, and other(handle) in the thread that handed it in, while it runs; returns who ended first."""
    order, running, handles = [], threading.Event(), []

    def callback():
        running.set()
        time.sleep(0.2)
        order.append("callback")

    def work():
        handles.append(loop.call_soon_threadsafe(callback))
        assert running.wait(LIMIT)
        other(handles[0])
        order.append("other")
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    return order


@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_threadsafe_handle_waits_for_the_running_callback(loop, method):
    """When cancel() has returned, the callback has ended or will never run."""
    order = run_a_callback_and(loop, lambda handle: getattr(handle, method)())
    assert order == (["callback", "other"] if CANCEL_WAITS else ["other", "callback"])


def test_threadsafe_handle_that_was_cancelled_in_time_never_runs(loop):
    seen, handles = [], []

    def work():
        for number in range(500):
            handle = loop.call_soon_threadsafe(seen.append, number)
            handle.cancel()
            handles.append((number, handle.cancelled(), len(seen)))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert all(cancelled for _, cancelled, _ in handles)
    if CANCEL_WAITS:
        assert len(seen) == handles[-1][2], "a callback ran after its cancel() had returned"


def test_threadsafe_handle_may_cancel_itself(loop):
    seen = []

    def callback():
        handles[0].cancel()
        seen.append(handles[0].cancelled())
        loop.stop()

    handles = [loop.call_soon_threadsafe(callback)]
    loop.run_forever()
    assert seen == [True]


def test_threadsafe_handle_that_fails_can_be_cancelled(loop, loop_errors):
    def fail():
        raise ZeroDivisionError

    handle = loop.call_soon_threadsafe(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    thread = threading.Thread(target=handle.cancel)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive() and handle.cancelled()
    [context] = loop_errors
    assert isinstance(context["exception"], ZeroDivisionError) and context["handle"] is handle
    loop_errors.clear()


def test_threadsafe_handle_is_of_asyncios_type(loop):
    handle = loop.call_soon_threadsafe(int, 1)
    wanted = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)
    assert isinstance(handle, wanted) and type(handle).__name__ == wanted.__name__
    assert repr(handle) == f"<{wanted.__name__} int()>" if sys.version_info >= (3, 13) else repr(handle)
    assert handle._args == (1,) and handle._callback is int and handle._loop is loop
    handle.cancel()
    assert handle._args is None and handle._callback is None


# --- servers


async def test_connections_context_is_a_copy_of_the_servers(loop):
    seen, protocols = [], []

    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen.append(VAR.get())
            VAR.set(f"connection {len(seen)}")

        def data_received(self, data):
            seen.append(VAR.get())
            self.transport.close()

    def factory():
        protocols.append(Protocol())
        return protocols[-1]

    VAR.set("server")
    server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
    VAR.set("start")
    await server.start_serving()
    for number in (1, 2):
        peer = socket.create_connection(server.sockets[0].getsockname())
        with peer:
            await until(lambda number=number: len(protocols) == number and protocols[-1].transport)
            peer.send(b"x")
            await protocols[-1].lost
    server.close()
    await server.wait_closed()
    if SERVER_HAS_CONTEXT:
        assert seen == ["server", "connection 1", "server", "connection 3"]
    else:
        assert seen[0] == seen[2] == "start"


async def test_cancelled_serve_forever_closes_the_clients(loop):
    made = []

    def factory():
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve_forever())
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        await until(lambda: made and made[0].transport)
        serving.cancel()
        if CLOSES_CLIENTS:
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert made[0].lost.done() or made[0].transport.is_closing()
            peer.settimeout(LIMIT)
            assert await loop.run_in_executor(None, peer.recv, 1) == b""
        else:
            await asyncio.sleep(0.05)
            assert not made[0].lost.done()
            made[0].transport.close()
            with pytest.raises(asyncio.CancelledError):
                await serving
    await made[0].lost


# --- transports


async def test_write_refuses_in_the_words_of_this_version(loop):
    def refuse(loop_factory):
        async def main():
            async with one_end() as (transport, protocol, peer):
                with pytest.raises(TypeError) as caught:
                    transport.write("text")
                return str(caught.value)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    answers = [await asyncio.to_thread(refuse, kind) for kind in (asyncio.SelectorEventLoop, type(loop))]
    assert answers[0] == answers[1]


# --- python -m asyncio ps, and pstree


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_asyncio_ps_sees_the_tasks(loop_spec, command):
    """The tool reads another process's memory: it finds its tasks whatever loop runs them, if it may read at all."""
    if not HAS_PS:
        return
    code = """
async def a_leaf():
    await asyncio.sleep(1000)
async def a_root():
    async with asyncio.TaskGroup() as group:
        group.create_task(a_leaf(), name="the leaf")
        await asyncio.sleep(0)
        print("ready", flush=True)
loop = new_loop()
loop.run_until_complete(loop.create_task(a_root(), name="the root"))
"""
    with started(program(loop_spec, code)) as process:
        assert process.stdout.readline() == "ready\n"
        done = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(process.pid)], capture_output=True, text=True, timeout=LIMIT
        )
        if "ermission" in done.stderr:
            pytest.skip("this process may not read another's memory")
        assert done.returncode == 0, done.stderr
        assert "the root" in done.stdout and "the leaf" in done.stdout and "a_leaf" in done.stdout


# --- policies, which go in 3.16


@pytest.mark.ours("our package")
def test_import_says_nothing(loop_spec):
    run_program(loop_spec, "import rloop.loops, rloop.policies, rloop.runners")


@pytest.mark.ours("our package")
def test_import_without_policies(loop_spec):
    """As in Python 3.16, from where they are gone."""
    out = run_program(
        "asyncio:SelectorEventLoop",
        f"""
from asyncio import events, unix_events
for module in (asyncio, events, unix_events):
    for name in [name for name in vars(module) if name.endswith("Policy") or name.endswith("event_loop_policy")]:
        if not name.startswith("_get_"):  # asyncio.new_event_loop() here
            delattr(module, name)
import rloop
print(hasattr(rloop, "EventLoopPolicy"), "EventLoopPolicy" in rloop.__all__)
async def main():
    return type(asyncio.get_running_loop()).__name__
print(rloop.run(main(), loop_factory=load({loop_spec!r})))
try:
    rloop.install()
except RuntimeError as error:
    print(error)
""",
    )
    name = loop_spec.rpartition(":")[2]
    assert out.splitlines()[:2] == ["False False", name]
    assert "no event loop policies" in out
