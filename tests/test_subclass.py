# SPDX-License-Identifier: MIT
"""Programs derive from the loop, put attributes on it and replace its methods; and the package's own front door."""

import asyncio
import gc
import importlib.metadata
import importlib.util
import inspect
import pathlib
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest

from support import connection, run_program, turns, until, within


def finish(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_attributes_can_be_set(loop):
    loop.anything = [1]
    assert loop.anything == [1]
    assert weakref.ref(loop)() is loop
    loop.slow_callback_duration = 3
    assert loop.slow_callback_duration == 3


@pytest.mark.parametrize("name", ["time", "call_at", "call_soon", "create_future", "nothing"])
def test_attribute_that_is_not_the_instances_can_not_be_deleted(loop, name):
    with pytest.raises(AttributeError, match=name):
        delattr(loop, name)


@pytest.mark.ours
def test_no_method_in_c_hides_one_in_python(loop):
    """The two classes have descriptors of their own for what C does, in front of everything that they inherit."""
    cls, base = type(loop).__mro__[:2]
    assert [name for name in vars(cls) if inspect.isfunction(inspect.getattr_static(base, name, None))] == []


def test_subclass_with_its_own_init(loop_factory, no_leaks):
    class Loop(loop_factory):
        def __init__(self, name):
            super().__init__()
            self.name = name

    loop = Loop("mine")
    assert loop.name == "mine"
    assert loop.run_until_complete(asyncio.sleep(0.001, 5)) == 5
    finish(loop)


def test_overridden_call_soon_is_honoured(loop_factory, no_leaks):
    seen = []

    class Loop(loop_factory):
        def call_soon(self, callback, *args, context=None):
            seen.append(callback)
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    loop.run_until_complete(turns(3))
    assert len(seen) >= 4  # the task's first step, its three turns
    finish(loop)


def test_overridden_time_is_honoured(loop_factory, no_leaks):
    class Loop(loop_factory):
        offset = 0.0

        def time(self):
            return super().time() + self.offset

    loop = Loop()
    loop.offset = 1000.0
    timer = loop.call_later(1, int)
    assert timer.when() > time.monotonic() + 900
    seen = []
    loop.call_later(500, seen.append, "soon, by the new clock")
    loop.call_soon(lambda: setattr(loop, "offset", 2000.0))
    loop.call_soon(lambda: loop.call_later(0.05, loop.stop))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert seen == ["soon, by the new clock"]
    finish(loop)


@pytest.mark.parametrize("good", range(6))
def test_a_clock_that_fails(loop_factory, no_leaks, good):
    """After some good readings; its exception leaves run_forever, and the loop goes on when the clock does."""

    class Loop(loop_factory):
        readings = None

        def time(self):
            if self.readings is not None:
                if not self.readings:
                    raise ZeroDivisionError("no time")
                self.readings -= 1
            return super().time()

    loop = Loop()
    ran = []
    loop.call_later(0.001, ran.append, 1)
    loop.call_later(0.002, ran.append, 2)
    loop.call_later(1000, int)

    async def go_on():
        while True:
            await asyncio.sleep(0)

    task = loop.create_task(go_on())
    loop.readings = good
    with pytest.raises(ZeroDivisionError, match="no time"):
        loop.run_forever()
    loop.readings = None
    loop.run_until_complete(asyncio.sleep(0.005))
    assert ran == [1, 2]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    finish(loop)


@pytest.mark.parametrize("wrong", ["now", None])
def test_a_clock_without_numbers(loop_factory, no_leaks, wrong):
    class Loop(loop_factory):
        now = 1.0

        def time(self):
            return self.now

    loop = Loop()
    loop.call_at(2.0, loop.stop)
    loop.now = wrong
    with pytest.raises(TypeError):
        loop.call_later(1, int)
    with pytest.raises(TypeError):
        loop.run_forever()
    loop.now = 3.0
    loop.run_forever()
    finish(loop)


def test_a_clock_that_stands_still(loop_factory, no_leaks):
    """As time-travelling test helpers do it: time passes only when the program says so."""

    class Loop(loop_factory):
        now = 0.0

        def time(self):
            return self.now

    loop = Loop()
    seen = []
    loop.call_later(10, seen.append, 10)
    loop.call_later(20, seen.append, 20)

    async def main():
        for second in range(0, 26, 5):
            loop.now = float(second)
            await turns()
            seen.append(f"at {second}")

    loop.run_until_complete(main())
    assert seen == ["at 0", "at 5", 10, "at 10", "at 15", 20, "at 20", "at 25"]
    finish(loop)


def test_overridden_call_exception_handler_is_honoured(loop_factory, no_leaks):
    seen = []

    class Loop(loop_factory):
        def call_exception_handler(self, context):
            seen.append(context["message"])

    loop = Loop()
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(turns())
    assert len(seen) == 1 and seen[0].startswith("Exception in callback ")
    finish(loop)


def test_overridden_default_exception_handler_is_honoured(loop_factory, no_leaks):
    seen = []

    class Loop(loop_factory):
        def default_exception_handler(self, context):
            seen.append(context["exception"])

    loop = Loop()
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(turns())
    assert isinstance(seen[0], ZeroDivisionError)
    finish(loop)


def test_overridden_create_task_and_create_future_are_honoured(loop_factory, no_leaks):
    seen = []

    class Loop(loop_factory):
        def create_task(self, coroutine, **kwargs):
            seen.append("task")
            return super().create_task(coroutine, **kwargs)

        def create_future(self):
            seen.append("future")
            return super().create_future()

    loop = Loop()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen[0] == "task" and "future" in seen
    finish(loop)


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")  # asyncio's, which is half made
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_overridden_call_soon_that_refuses(loop_factory, no_leaks):
    """What a transport can't call, it does not call; its maker hears of it."""

    class Loop(loop_factory):
        refuses = False

        def call_soon(self, callback, *args, context=None):
            if self.refuses and getattr(callback, "__name__", "") == "connection_made":
                raise ZeroDivisionError("refused")
            return super().call_soon(callback, *args, context=context)

    loop = Loop()

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            loop.refuses = True
            with pytest.raises(ZeroDivisionError, match="refused"):
                await loop.create_connection(asyncio.Protocol, sock=ours)
        ours.close()

    loop.run_until_complete(main())
    finish(loop)


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("broken", ["set_result", "cancelled"])
def test_a_future_that_can_not_be_told_of_the_connection(loop_factory, no_leaks, broken, error):
    """The handler hears of it, or run_forever's caller; the connection is made all the same."""

    class Broken(asyncio.Future):
        def fail(self, *arguments):
            raise error("on purpose")

    class Loop(loop_factory):
        is_broken = False

        def create_future(self):
            return Broken(loop=self) if self.is_broken else super().create_future()

    class Noting(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            events.append("made")

        def connection_lost(self, error):
            events.append("lost")

    loop = Loop()
    told, events = [], []
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))

    async def connect(sock):
        loop.is_broken = True
        connecting = asyncio.ensure_future(loop.create_connection(lambda: protocol, sock=sock))
        await asyncio.sleep(0)
        loop.is_broken = False
        setattr(Broken, broken, Broken.fail)
        await until(lambda: told)
        return connecting

    async def disconnect(connecting):
        delattr(Broken, broken)
        connecting.cancel()
        await asyncio.wait([connecting])
        protocol.transport.abort()
        await until(lambda: "lost" in events)

    protocol = Noting()
    ours, theirs = socket.socketpair()
    with theirs:
        task = loop.create_task(connect(ours))
        try:
            loop.run_until_complete(task)
        except SystemExit as exit:
            told.append(exit)
        connecting = loop.run_until_complete(task)
        assert [type(exception) for exception in told] == [error]
        loop.run_until_complete(disconnect(connecting))
    assert events == ["made", "lost"]
    finish(loop)


def test_overridden_call_at_is_used_by_call_later(loop_factory, no_leaks):
    seen = []

    class Loop(loop_factory):
        def call_at(self, when, callback, *args, context=None):
            seen.append(when)
            return super().call_at(when, callback, *args, context=context)

    loop = Loop()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(seen) == 1
    finish(loop)


def test_methods_can_be_replaced_on_the_instance(loop):
    seen = []
    original = loop.call_exception_handler
    loop.call_exception_handler = lambda context: seen.append(context["message"])
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen[0].startswith("Exception in callback ")
    loop.call_exception_handler = original


def test_call_soon_replaced_on_the_instance(loop):
    seen = []
    original = loop.call_soon

    def call_soon(callback, *args, context=None):
        seen.append(callback)
        return original(callback, *args, context=context)

    loop.call_soon = call_soon
    loop.run_until_complete(turns(2))
    del loop.call_soon
    assert len(seen) >= 3


def test_connections_work_on_a_subclass(loop_factory, no_leaks):
    class Loop(loop_factory):
        pass

    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            await writer.wait_closed()

    loop = Loop()
    loop.run_until_complete(within(main()))
    finish(loop)


# --- the package

FACTORIES = {"rloop": "new_event_loop", "tokio": "new_tokio_event_loop"}
POLICIES = {"rloop": "EventLoopPolicy", "tokio": "TokioEventLoopPolicy"}
HAS_POLICIES = sys.version_info < (3, 16)


@pytest.fixture
def rloop():
    import rloop

    return rloop


@pytest.mark.ours("our package")
def test_new_event_loop(rloop, loop_name, loop_factory, no_leaks):
    loop = getattr(rloop, FACTORIES[loop_name])()
    assert type(loop) is loop_factory
    loop.close()


@pytest.mark.ours("our package")
@pytest.mark.parametrize("debug", [None, True, False])
def test_run(rloop, loop_name, loop_factory, debug, no_leaks):
    async def main():
        loop = asyncio.get_running_loop()
        assert type(loop) is loop_factory
        if debug is not None:
            assert loop.get_debug() is debug
        return "result"

    assert rloop.run(main(), loop_factory=loop_factory, debug=debug) == "result"


def test_run_uses_rloop_if_not_told_otherwise(rloop, no_leaks):
    async def main():
        return type(asyncio.get_running_loop())

    assert rloop.run(main()) is rloop.RLoop


def test_run_takes_a_coroutine(rloop, no_leaks):
    with pytest.raises((TypeError, ValueError), match="coroutine"):
        rloop.run(None)


@pytest.mark.ours("our package")
def test_policy(rloop, loop_name, loop_spec):
    if not HAS_POLICIES:
        assert not hasattr(rloop, POLICIES[loop_name])
        return
    assert (
        run_program(
            loop_spec,
            f"""
import rloop
warnings.simplefilter("ignore", DeprecationWarning)
asyncio.set_event_loop_policy(rloop.{POLICIES[loop_name]}())
async def main():
    return type(asyncio.get_running_loop()) is new_loop
print(asyncio.run(main()))
loop = asyncio.new_event_loop()
print(type(loop) is new_loop)
loop.close()
""",
        )
        == "True\nTrue\n"
    )


def test_install_makes_rloop_the_default():
    assert (
        run_program(
            "rloop:RLoop",
            """
import rloop
warnings.simplefilter("ignore", DeprecationWarning)
rloop.install()
async def main():
    return type(asyncio.get_running_loop()) is rloop.RLoop
print(asyncio.run(main()))
""",
        )
        == "True\n"
    )


def test_version(rloop):
    assert rloop.__version__ == importlib.metadata.version("rloop")


def test_public_names(rloop):
    expected = {"RLoop", "TokioLoop", "new_event_loop", "new_tokio_event_loop", "run", "install", "__version__"}
    if HAS_POLICIES:
        expected |= {"EventLoopPolicy", "TokioEventLoopPolicy"}
    assert expected <= set(dir(rloop))
    assert expected - {"__version__"} <= set(rloop.__all__)


def test_py_typed_and_stubs_are_installed(rloop):
    folder = pathlib.Path(rloop.__file__).parent
    names = {path.name for path in folder.iterdir()}
    if "py.typed" not in names:  # an editable install keeps the sources elsewhere
        folder = pathlib.Path(__file__).parents[1] / "python" / "rloop"
        names = {path.name for path in folder.iterdir()}
    assert "py.typed" in names
    assert "_rloop.pyi" in names


@pytest.mark.ours("our package")
def test_import_is_silent_with_warnings_as_errors(loop_spec):
    code = f"import rloop\n{loop_spec.replace(':', '.')}().close()\nprint('quiet')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "quiet\n", "")


@pytest.mark.ours("our package")
def test_methods_have_signatures_and_docstrings(loop_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("call_soon", "call_later", "call_at", "call_soon_threadsafe", "run_forever", "stop", "time"):
            method = getattr(loop_factory, name)
            assert inspect.signature(method)
            assert method.__doc__


def test_an_own_call_soon_sees_the_protocols_calls(loop_factory):
    seen = []

    class Own(loop_factory):
        def call_soon(self, callback, *args, context=None):
            seen.append(getattr(callback, "__name__", ""))
            return super().call_soon(callback, *args, context=context)

    async def main():
        async with connection() as pair:
            pair.client.write(b"x")
            await until(lambda: pair.server_protocol.data == b"x")
        assert pair.client_protocol.events == ["made", "lost"]

    loop = Own()
    loop.run_until_complete(main())
    loop.close()
    assert seen.count("connection_made") == 2


@pytest.mark.ours("asyncio's loops can be initialized again, and leave their files behind")
def test_a_loop_is_initialized_once(loop_factory):
    from rloop._rloop import LoopBase

    loop = loop_factory()
    with pytest.raises(RuntimeError, match="the loop has been initialized already"):
        LoopBase.__init__(loop, "mio")
    loop.close()
    with pytest.raises(TypeError, match="missing required argument 'core'"):
        LoopBase()

    class Unknown(type(loop)):
        _core = "unknown"

    with pytest.raises(ValueError, match="no core is called 'unknown'"):
        Unknown()


@pytest.mark.parametrize("module, name", [("futures", "Future"), ("tasks", "Task")])
def test_without_asyncios_own_types(loop, monkeypatch, module, name):
    """They are looked up where asyncio looks, when they are needed."""
    monkeypatch.delattr(getattr(asyncio, module), name)
    coroutine = turns()
    with pytest.raises(AttributeError, match=f"^module 'asyncio.{module}' has no attribute '{name}'$"):
        loop.create_future() if name == "Future" else loop.create_task(coroutine)
    coroutine.close()


@pytest.mark.ours("it is about our extension")
def test_the_collector_sees_what_the_extension_holds(loop):
    """And so can free a copy of it that nobody uses any more."""
    from rloop import _rloop

    spec = importlib.util.spec_from_file_location(_rloop.__name__, _rloop.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    held = gc.get_referents(module)
    for value in (asyncio.Future, asyncio.Handle, asyncio.StreamReader, asyncio.log.logger, module.LoopBase):
        assert any(value is other for other in held)
    for value in held:
        assert any(referrer is module for referrer in gc.get_referrers(value)), value
    del held, value
    seen = weakref.ref(module.LoopBase)
    del module, spec
    gc.collect()
    if getattr(sys, "_is_gil_enabled", lambda: True)():  # else types live for ever, on 3.13
        assert seen() is None


@pytest.mark.ours("asyncio's loops hold it in Python's own containers")
def test_the_collector_sees_what_a_loop_holds(loop):
    left, right = socket.socketpair()
    threads = []
    thread = threading.Thread(target=lambda: threads.append(loop.call_soon_threadsafe(int)))
    with left, right:
        handles = {
            "ready": loop.call_soon(int),
            "timer": loop.call_later(1000, int),
            "reader": loop._add_reader(left, int),
            "writer": loop._add_writer(right, int),
        }
        loop._thread_id = 1  # as if it ran elsewhere: the inbox takes the handle
        thread.start()
        thread.join()
        loop._thread_id = None
        handles["thread"] = threads.pop()
        for name, handle in handles.items():
            assert any(referrer is loop for referrer in gc.get_referrers(handle)), name
        loop.remove_reader(left)
        loop.remove_writer(right)
        handles["timer"].cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        for name in ("timer", "reader", "writer"):
            assert not any(referrer is loop for referrer in gc.get_referrers(handles[name])), name
