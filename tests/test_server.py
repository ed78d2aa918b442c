# SPDX-License-Identifier: MIT
"""Servers: accepting, closing, serving; many clients at once, no file descriptors left, several processes."""

import asyncio
import gc
import socket
import threading
import warnings

import pytest

from support import LIMIT, Accepted, Echo, Recorder, address, clients, connection, run_program, turns, until, until_sync

HAS_CLOSE_CLIENTS = hasattr(asyncio.Server, "close_clients")

# --- the object


async def test_server_is_asyncios(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert isinstance(server, asyncio.Server) and isinstance(server, asyncio.AbstractServer)
    assert server.get_loop() is loop
    assert server.is_serving()
    [sock] = server.sockets
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert repr(server).startswith("<Server sockets=")
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    await server.wait_closed()
    server.close()
    await server.wait_closed()


async def test_start_serving(loop):
    accepted = Accepted()
    server = await loop.create_server(accepted, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    with clients(server, 1):
        await until(lambda: accepted.count("made") == 1)
    await accepted.protocols[0].lost
    server.close()
    await server.wait_closed()


async def test_serve_forever_ends_with_its_task(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    task = asyncio.create_task(server.serve_forever())
    await until(server.is_serving)
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await server.serve_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_async_with_closes(loop):
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
        where = address(server)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


async def test_close_frees_the_port_at_once(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    where = address(server)
    server.close()
    await turns()
    with socket.create_server(where):
        pass
    await server.wait_closed()


async def test_close_leaves_the_connections(loop):
    async with connection() as pair:
        pair.server.close()
        pair.client.write(b"still here")
        await until(lambda: pair.server_protocol.data == b"still here")


async def test_wait_closed_waits_for_the_connections(loop):
    async with connection() as pair:
        pair.server.close()
        waiting = asyncio.create_task(pair.server.wait_closed())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        pair.client.close()
        await waiting
        assert pair.server_protocol.lost.done()


async def test_wait_closed_waits_for_close(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    waiting = asyncio.create_task(server.wait_closed())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    server.close()
    await waiting


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="asyncio.Server.close_clients is of 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_close_and_abort_clients(loop, method):
    accepted = Accepted()
    server = await loop.create_server(accepted, "127.0.0.1", 0)
    with clients(server, 3) as socks:
        await until(lambda: accepted.count("made") == 3)
        if method == "abort_clients":
            for protocol in accepted.protocols:
                protocol.transport.write(bytes(8 << 20))
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        assert accepted.count("lost") == 3
        assert [protocol.lost.result() for protocol in accepted.protocols] == [None] * 3
        if method == "close_clients":
            assert [sock.recv(10) for sock in socks] == [b""] * 3


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="the server of 3.12 knows no clients")
async def test_server_does_not_keep_lost_clients(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    for _ in range(5):
        with clients(server, 1):
            await until(lambda: len(server._clients) == 1)
        await until(lambda: len(server._clients) == 0)
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="the server of 3.12 knows no clients")
async def test_the_clients_of_a_server(loop):
    accepted = Accepted()
    server = await loop.create_server(accepted, "127.0.0.1", 0)
    other = await loop.create_server(Recorder, "127.0.0.1", 0)
    with clients(server, 3):
        await until(lambda: accepted.count("made") == 3)
        transports = {protocol.transport for protocol in accepted.protocols}
        assert set(server._clients) == set(server._clients.copy()) == transports
        first = next(iter(transports))
        assert first in server._clients and first not in other._clients
        server._clients.add(first)
        assert len(server._clients) == 3
        server._clients.discard(first)
        server._clients.discard(first)
        assert first not in server._clients and len(server._clients) == 2
        other._attach(first)
        server._attach(first)
        assert len(server._clients) == 3 and list(other._clients) == [first]
        other._detach(first)
        assert len(server._clients) == 3 and len(other._clients) == 0
        server.abort_clients()
        await until(lambda: len(server._clients) == 0)
    for each in (server, other):
        each.close()
        await each.wait_closed()


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="the server of 3.12 knows no clients")
async def test_transports_of_other_kinds_are_clients_too(loop):
    class Other:
        closed = False

        def close(self):
            self.closed = True

    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    one, two = Other(), Other()
    server._attach(one)
    server._attach(two)
    server.close_clients()
    assert one.closed and two.closed and len(server._clients) == 2 and one in server._clients
    del two
    gc.collect()
    assert list(server._clients) == [one]
    server.close()
    waiting = loop.create_task(server.wait_closed())
    await turns()
    assert not waiting.done()
    server._detach(one)
    await waiting


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="the server of 3.12 knows no clients")
def test_a_server_keeps_no_client_alive(loop_factory, no_leaks):
    loop = loop_factory()
    accepted = Accepted()
    server = loop.run_until_complete(loop.create_server(accepted, "127.0.0.1", 0))
    with clients(server, 2):
        loop.run_until_complete(until(lambda: len(server._clients) == 2))
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            accepted.protocols.clear()
            gc.collect()
        assert len(server._clients) == 0 and set(server._clients) == set()
    for sock in server.sockets:
        sock._sock.close()


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="the server of 3.12 knows no clients")
async def test_clients_outlive_their_server(loop):
    accepted = Accepted()
    server = await loop.create_server(accepted, "127.0.0.1", 0)
    with clients(server, 2) as peers:
        await until(lambda: len(server._clients) == 2)
        server._clients = set()  # what it had is freed
        peers[0].send(b"hello")
        await until(lambda: any(protocol.data for protocol in accepted.protocols))
        for protocol in accepted.protocols:
            protocol.transport.abort()
        await turns()
    server.close()
    await server.wait_closed()


# --- where it listens


@pytest.mark.parametrize("host", [["127.0.0.1", "::1"], "localhost", None, ""])
async def test_several_addresses(loop, host):
    accepted = Accepted()
    server = await loop.create_server(accepted, host, 0)
    if isinstance(host, list):
        assert {sock.family for sock in server.sockets} == {socket.AF_INET, socket.AF_INET6}
    for count, sock in enumerate(server.sockets, 1):
        where = ("127.0.0.1" if sock.family == socket.AF_INET else "::1", sock.getsockname()[1])
        with socket.create_connection(where):
            await until(lambda: accepted.count("made") == count)
        await accepted.protocols[-1].lost
    server.close()
    await server.wait_closed()


async def test_family(loop):
    server = await loop.create_server(Recorder, "localhost", 0, family=socket.AF_INET)
    assert [sock.family for sock in server.sockets] == [socket.AF_INET]
    server.close()
    await server.wait_closed()


async def test_port_in_use(loop):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with pytest.raises(OSError, match="error while attempting to bind on address"):
            await loop.create_server(Recorder, *sock.getsockname())


async def test_socket_given(loop):
    accepted = Accepted(Echo)
    server = await loop.create_server(accepted, sock=socket.create_server(("127.0.0.1", 0)))
    with clients(server, 1) as [client]:
        client.sendall(b"hello")
        assert await asyncio.to_thread(client.recv, 100) == b"hello"
    await accepted.protocols[0].lost
    server.close()
    await server.wait_closed()


async def test_contradicting_arguments(loop):
    with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
            await loop.create_server(Recorder, "127.0.0.1", 0, sock=sock)
        with pytest.raises(ValueError, match="Neither host/port nor sock were specified"):
            await loop.create_server(Recorder)
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.create_server(Recorder, sock=datagram)
    with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
        await loop.create_server(Recorder, "127.0.0.1", 0, ssl=True)


async def test_reuse_port(loop):
    first = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
    second = await loop.create_server(Recorder, *address(first), reuse_port=True)
    assert address(first) == address(second)
    for server in (first, second):
        server.close()
        await server.wait_closed()


# --- clients


async def test_burst_of_clients(loop):
    """More than are accepted in one turn; each has its own bytes."""
    accepted = Accepted(Echo)
    server = await loop.create_server(accepted, "127.0.0.1", 0, backlog=300)
    with clients(server, 200) as socks:
        for number, sock in enumerate(socks):
            sock.sendall(b"client %d" % number)

        def answers():
            return [sock.recv(100) for sock in socks]

        assert await asyncio.to_thread(answers) == [b"client %d" % number for number in range(200)]
    await until(lambda: accepted.count("lost") == 200)
    server.close()
    await server.wait_closed()


async def test_client_that_left_before_it_was_accepted(loop):
    accepted = Accepted()
    server = await loop.create_server(accepted, "127.0.0.1", 0)
    with clients(server, 3):
        pass
    await until(lambda: accepted.count("lost") == 3)
    with clients(server, 1):
        await until(lambda: accepted.count("made") == 4)
    await until(lambda: accepted.count("lost") == 4)
    server.close()
    await server.wait_closed()


async def test_close_in_connection_made(loop):
    """The server closes while clients are still waiting in its backlog."""

    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            server.close()

    accepted = Accepted(Closing)
    server = await loop.create_server(accepted, "127.0.0.1", 0)
    with clients(server, 5):
        await until(lambda: accepted.count("made") >= 1)
        await turns(10)
        assert not server.is_serving()
    await until(lambda: accepted.count("lost") == accepted.count("made"))
    await server.wait_closed()


@pytest.mark.ours("asyncio leaves the accepted socket to the garbage collector")
async def test_protocol_factory_that_raises(loop, loop_errors):
    """It is reported in debug mode only, as asyncio does it."""
    loop.set_debug(True)
    calls = []

    def factory():
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        return accepted()

    accepted = Accepted()
    server = await loop.create_server(factory, "127.0.0.1", 0)
    with clients(server, 1) as [sock]:
        await until(lambda: loop_errors)
        [context] = loop_errors
        loop_errors.clear()
        assert isinstance(context["exception"], ZeroDivisionError)
        assert context["message"].startswith("Error on transport creation for incoming connection")
        assert await asyncio.to_thread(sock.recv, 10) == b""
    with clients(server, 1):
        await until(lambda: accepted.count("made") == 1)
    await accepted.protocols[0].lost
    server.close()
    await server.wait_closed()


async def test_start_server_callback_that_raises(loop, loop_errors):
    async def serve(reader, writer):
        raise ZeroDivisionError

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with clients(server, 1) as [sock]:
            await until(lambda: loop_errors)
            assert loop_errors[0]["message"] == "Unhandled exception in client_connected_cb"
            loop_errors.clear()
            assert await asyncio.to_thread(sock.recv, 10) == b""


def test_closed_loop_stops_listening(loop_factory):
    loop = loop_factory()
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    where = address(server)
    loop.run_until_complete(turns())
    server.close()
    loop.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


OUT_OF_FDS = """
import logging, resource
records = []
class Handler(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger("asyncio").addHandler(Handler())

async def main():
    loop = asyncio.get_running_loop()
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    where = server.sockets[0].getsockname()
    clients = [socket.create_connection(where, timeout=20) for _ in range(20)]
    lowest = os.dup(0); os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, 4096))  # not one more
    cpu = time.process_time()
    await asyncio.sleep(0.6)
    print("idle", time.process_time() - cpu < 0.3)
    print("told", any("out of system resource" in context["message"] for context in contexts))
    print("errno", isinstance(contexts[0]["exception"], OSError) and contexts[0]["exception"].errno)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    for number, client in enumerate(clients):
        client.sendall(b"%d\\n" % number)
    answers = await asyncio.to_thread(lambda: [client.recv(100) for client in clients])
    told = len(contexts)
    print("recovered", answers == [b"%d\\n" % number for number in range(20)])
    print("told seldom", told < 30)
    for client in clients:
        client.close()
    server.close()
    await server.wait_closed()
loop = new_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""


def test_out_of_file_descriptors(loop_spec, loop_name):
    """Accepting reports it, waits without spinning, and goes on when there are some again; no client is lost."""
    out = run_program(loop_spec, OUT_OF_FDS)
    # asyncio tells it a hundred times a second, once for each place in the backlog.
    assert out.splitlines() == ["idle True", "told True", "errno 24", "recovered True"] + (
        ["told seldom False"] if loop_name == "asyncio" else ["told seldom True"]
    )


PREFORK = """
listener = socket.create_server(("127.0.0.1", 0), backlog=300)
listener.setblocking(False)
async def serve():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"%d\\n" % os.getpid())
        writer.close()
    server = await asyncio.start_server(answer, sock=listener)
    await stop.wait()
    server.close()
    await server.wait_closed()
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        loop = new_loop()
        loop.run_until_complete(serve())
        loop.close()
        os._exit(0)
    children.append(child)
served = set()
for _ in range(10):
    clients = [socket.create_connection(listener.getsockname(), timeout=20) for _ in range(30)]
    for client in clients:
        client.sendall(b"who\\n")
    for client in clients:
        served.add(int(client.makefile().readline()))
        client.close()
print(served <= set(children), len(served) >= 1)
for child in children:
    os.kill(child, signal.SIGTERM)
    print(os.waitpid(child, 0)[1])
listener.close()
"""


def test_prefork_servers_share_a_listener(loop_spec):
    assert run_program(loop_spec, PREFORK) == "True True\n0\n0\n0\n"


def test_servers_in_two_threads_share_a_listener(loop_factory, no_leaks):
    """Each accepts from its own duplicate; every client is served by one of them."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    listener.setblocking(False)
    served, loops = [], []

    def work(sock):
        async def main():
            stop = asyncio.Event()

            async def answer(reader, writer):
                writer.write(await reader.readline())
                served.append(1)
                writer.close()

            async with await asyncio.start_server(answer, sock=sock):
                loops.append((asyncio.get_running_loop(), stop))
                await stop.wait()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    threads = [threading.Thread(target=work, args=(listener.dup(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    until_sync(lambda: len(loops) == 2)
    for number in range(100):
        with socket.create_connection(listener.getsockname(), timeout=LIMIT) as client:
            client.sendall(b"%d\n" % number)
            assert client.recv(100) == b"%d\n" % number
    for loop, stop in loops:
        loop.call_soon_threadsafe(stop.set)
    for thread in threads:
        thread.join(LIMIT)
    assert len(served) == 100
    listener.close()
