# SPDX-License-Identifier: MIT
"""Fixtures: every test runs on asyncio's own loop, the oracle, and on both of ours.

An `async def` test runs on the `loop` fixture within a time limit.  `loop` fails a test that leaves behind what it
should not: an unexpected call of the exception handler, a file descriptor, a thread.  RLOOP_TEST_LOOPS (a choice of
asyncio, rloop, tokio, separated by commas) narrows the loops down while working on one of them.
"""

import asyncio
import gc
import inspect
import os
import signal
import socket
import ssl
import threading
import time

import pytest

pytest.register_assert_rewrite("support")

from support import LOOPS, load, open_fds, within  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)


def chosen_loops():
    chosen = os.environ.get("RLOOP_TEST_LOOPS")
    return chosen.split(",") if chosen else list(LOOPS)


def pytest_generate_tests(metafunc):
    if "loop_name" in metafunc.fixturenames:
        names = chosen_loops()
        if metafunc.definition.get_closest_marker("ours"):
            names = [name for name in names if name != "asyncio"]
        metafunc.parametrize("loop_name", names, indirect=True)


# The tests collect garbage often.  They need not look at all that pytest, the imports and earlier tests have made.


def pytest_collection_finish():
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish():
    global finished
    finished += 1
    if finished % 50 == 0:
        gc.collect()
        gc.freeze()


finished = 0


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector, name, obj):
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj):
        pytest.mark.usefixtures("loop")(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    pyfuncitem.funcargs["loop"].run_until_complete(within(pyfuncitem.obj(**arguments)))
    return True


@pytest.fixture(scope="session", autouse=True)
def used_once():
    """The first loop of a process may open what the process keeps (libuv: a pipe for signals)."""
    for name in chosen_loops():
        load(LOOPS[name])().close()


@pytest.fixture
def loop_name(request):
    return request.param


@pytest.fixture
def loop_spec(loop_name):
    """module:callable, for a program in another process."""
    return LOOPS[loop_name]


@pytest.fixture
def loop_factory(loop_spec):
    return load(loop_spec)


@pytest.fixture
def loop_errors():
    """The contexts that the exception handler was called with; a test that expects some takes them out."""
    return []


def left_over(fds, threads):
    left = {fd: what for fd, what in open_fds().items() if fds.get(fd) != what}
    return left, set(threading.enumerate()) - threads


@pytest.fixture
def no_leaks(request):
    """Nothing that the process holds from the system is more after the test than before."""
    before = open_fds(), set(threading.enumerate())
    yield
    if "loop" not in request.fixturenames or left_over(*before) != ({}, set()):
        gc.collect()
    deadline = time.monotonic() + 10
    while left_over(*before)[1] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left_over(*before) == ({}, set())


@pytest.fixture
def loop(loop_factory, loop_errors, no_leaks):
    loop = loop_factory()
    loop.set_exception_handler(lambda loop, context: loop_errors.append(context))
    yield loop
    if not loop.is_closed():
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(within(finish(loop, tasks)))
        loop.close()
    gc.collect()
    assert loop_errors == []


async def finish(loop, tasks):
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


@pytest.fixture
def run(loop):
    """Run a coroutine to its end on the loop; it fails when that takes very long."""
    return lambda coroutine, limit=30: loop.run_until_complete(within(coroutine, limit))


@pytest.fixture
def socket_pair():
    """Two connected non-blocking Unix sockets."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


# --- TLS


@pytest.fixture(scope="session")
def authority():
    return pytest.importorskip("trustme").CA()


@pytest.fixture
def server_context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
