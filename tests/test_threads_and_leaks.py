# SPDX-License-Identifier: MIT
"""Nothing is left: file descriptors, threads, objects, after any number of loops and connections."""

import asyncio
import contextvars
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref

import pytest

from support import (
    Datagrams,
    Echo,
    Recorder,
    connection,
    one_end,
    open_fds,
    pattern,
    run_program,
    turns,
    until,
    until_sync,
    within,
)


async def everything(directory):
    """A bit of all that a loop does."""
    loop = asyncio.get_running_loop()
    async with connection(Recorder, Echo) as pair:
        pair.client.write(pattern(300_000))
        await until(lambda: len(pair.client_protocol.data) == 300_000)
    async with connection(Recorder, Echo, path=os.path.join(directory, "socket")) as pair:
        pair.client.write(b"x")
        await until(lambda: pair.client_protocol.data)
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await until(lambda: protocol.received)
    transport.close()
    await protocol.lost
    read, write = os.pipe()
    reading, reader = await loop.connect_read_pipe(Recorder, open(read, "rb", 0))
    writing, writer = await loop.connect_write_pipe(Recorder, open(write, "wb", 0))
    writing.write(b"x")
    writing.close()
    await reader.lost
    await writer.lost
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert await process.communicate(b"x") == (b"x", None)
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        receiving = asyncio.create_task(loop.sock_recv(left, 10))
        await turns(1)
        await loop.sock_sendall(right, b"x")
        assert await receiving == b"x"
        loop.add_reader(left, int)
        loop.add_writer(left, int)
    loop.add_signal_handler(signal.SIGUSR1, int)
    assert await loop.run_in_executor(None, lambda: 5) == 5
    loop.call_later(1000, int)
    loop.call_soon_threadsafe(int)


def test_hundred_loops_that_do_everything(loop_factory, tmp_path):
    def one():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(within(everything(str(tmp_path))))
        (tmp_path / "socket").unlink(missing_ok=True)

    one()
    gc.collect()
    fds, threads, tasks = open_fds(), threading.active_count(), native_threads()
    for _ in range(100):
        one()
    gc.collect()
    assert open_fds() == fds
    assert threading.active_count() == threads
    until_sync(lambda: native_threads() <= tasks)  # a joined thread is the kernel's for a moment more


def native_threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0


def test_hundred_loops_that_do_nothing(loop_factory, no_leaks):
    for _ in range(100):
        loop_factory().close()


def test_a_loop_takes_few_file_descriptors(loop_factory, no_leaks):
    before = len(open_fds())
    loop = loop_factory()
    loop.run_until_complete(turns())
    assert len(open_fds()) - before <= 12
    loop.close()
    assert len(open_fds()) == before


def test_many_loops_in_many_threads(loop_factory, no_leaks):
    failures = []

    def work():
        try:
            for _ in range(20):
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    runner.run(within(ping()))
        except BaseException as error:
            failures.append(error)

    async def ping():
        async with connection(Recorder, Echo) as pair:
            pair.client.write(b"x")
            await until(lambda: pair.client_protocol.data)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_thousand_connections_leave_no_objects(loop, run):
    """Neither protocols nor transports, nor anything else that the collector knows."""

    async def hundred():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        for _ in range(100):
            transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
            transport.write(b"x")
            await until(lambda: protocol.data)
            transport.close()
            await protocol.lost
        server.close()
        await server.wait_closed()
        await turns()

    def count():
        gc.collect()
        return len(gc.get_objects())

    run(hundred())
    before = count()
    for _ in range(3):
        run(hundred())
    assert count() - before < 100


def test_callbacks_and_timers_leave_no_references(loop):
    class Callback:
        def __call__(self, *args):
            pass

    callback, argument, context = Callback(), object(), contextvars.Context()
    counted = (callback, argument, context)
    before = [sys.getrefcount(value) for value in counted]
    for _ in range(100):
        loop.call_soon(callback, argument, context=context)
        loop.call_soon_threadsafe(callback, argument, context=context)
        loop.call_later(0, callback, argument, context=context)
        loop.call_later(100, callback, argument, context=context).cancel()
        loop.call_soon(callback, argument, context=context).cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    gc.collect()
    assert [sys.getrefcount(value) for value in counted] == before


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
async def test_connections_leave_no_references_to_their_protocols(loop, how):
    async def connect():
        async with one_end() as (transport, protocol, peer):
            peer.sendall(b"x")
            await until(lambda: protocol.data)
            peer.close() if how == "peer" else getattr(transport, how)()
            await protocol.lost
            return weakref.ref(transport), weakref.ref(protocol)

    gone = await connect()
    await turns()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


async def test_big_payloads_leave_no_references(loop):
    class Payload(bytes):
        pass

    payload = Payload(4 << 20)
    before = sys.getrefcount(payload)
    async with one_end(small=True) as (transport, protocol, peer):
        transport.write(payload)
        transport.write(payload)
        transport.abort()
        await protocol.lost
    del transport, protocol
    await turns()
    gc.collect()
    assert sys.getrefcount(payload) == before


def test_loop_with_open_things_is_collected(loop_factory, no_leaks):
    """A program that forgets its loop, with a server, a connection, watches and timers, gets warnings but no leak."""

    async def start():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"x")
        await until(lambda: protocol.data)
        left, right = socket.socketpair()
        loop.add_reader(left, print, left, right, loop)
        loop.call_later(100, print, loop)
        loop.kept = server, transport, protocol
        return weakref.ref(loop), weakref.ref(transport), weakref.ref(protocol)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = loop_factory()
        gone = loop.run_until_complete(start())
        del loop
        gc.collect()
        gc.collect()
    assert [ref() for ref in gone] == [None] * 3


def test_closed_loop_with_open_things_is_collected(loop_factory, no_leaks):
    async def start():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(bytes(8 << 20))
        loop.kept = server, transport, protocol
        return weakref.ref(loop), weakref.ref(transport), weakref.ref(protocol)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = loop_factory()
        gone = loop.run_until_complete(start())
        loop.close()
        del loop
        gc.collect()
        gc.collect()
    assert [ref() for ref in gone] == [None] * 3


def test_memory_of_many_connections_is_given_back(loop_spec):
    """The process does not grow with the number of connections that it has had."""
    out = (
        run_program(
            loop_spec,
            """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    async def one():
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(bytes(10000))
        await until(lambda: len(protocol.data) == 10000)
        transport.close()
        await protocol.lost
    async def many(count):
        for _ in range(count // 20):
            await asyncio.gather(*(one() for _ in range(20)))
        gc.collect()
    await many(600)
    before = resident()
    await many(2400)
    print(resident() - before < 8 << 20)
    server.close()
    await server.wait_closed()
loop = new_loop()
loop.run_until_complete(main())
loop.close()
""",
        )
        if os.path.exists("/proc/self/statm")
        else "True\n"
    )
    assert out == "True\n"


@pytest.mark.parametrize("moment", ["callbacks", "data", "timers"])
def test_collector_at_any_moment(loop_spec, moment):
    """The collector runs after every few allocations, so it sees objects half made and half gone."""
    body = {
        "callbacks": "for _ in range(300): loop.call_soon(int, 1); await asyncio.sleep(0)",
        "timers": "for _ in range(300): loop.call_later(0, int).cancel(); await asyncio.sleep(0.00001)",
        "data": """
    async with connection(Recorder, Echo) as pair:
        for number in range(1, 300):
            pair.client.write(b"x")
            await until(lambda: len(pair.client_protocol.data) == number)
""",
    }[moment]
    run_program(
        loop_spec,
        f"""
async def main():
    loop = asyncio.get_running_loop()
    {body}
gc.set_threshold(1, 1, 1)
for _ in range(3):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
""",
    )


@pytest.mark.ours("asyncio leaves the files that it has opened already, and fails again in a destructor")
def test_no_files_for_a_loop(loop_spec):
    out = run_program(
        loop_spec,
        """
import resource
new_loop().close()
used = max(open_fds()) + 1
refused = 0
for allowed in range(used, used + 12):
    before = open_fds()
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, 4096))
    try:
        new_loop().close()
    except OSError as error:
        refused += 1
        assert error.errno == 24, error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    gc.collect()
    assert open_fds() == before, allowed
print(refused > 0, refused < 12)
""",
    )
    assert out == "True True\n"
