# SPDX-License-Identifier: MIT
"""The programs that run under faults: short ones, which together use all that a loop offers.

Each is given the loop and a folder for its files, and returns what it has achieved: the same value on every loop when
nothing fails.  What arrives is compared with what was sent as it comes (`Sink`), so that a lost or doubled byte is an
error of its own kind, Wrong, however the program ends.
"""

import asyncio
import contextlib
import contextvars
import gc
import importlib.util
import logging
import os
import random
import signal
import socket
import ssl
import subprocess
import sys

BIG = random.Random(1).randbytes(700_000)  # more than socket buffers take at once
SMALL = random.Random(2).randbytes(1500)
LOCAL = "127.0.0.1"


class Wrong(Exception):
    """Bytes arrived that were not the next ones sent."""


class Sink:
    """Takes what arrives and looks whether it is what was sent, from its beginning on."""

    def __init__(self, sent):
        self.sent = sent
        self.size = 0

    def take(self, data):
        if self.sent[self.size : self.size + len(data)] != data:
            raise Wrong(f"{len(data)} bytes at {self.size}")
        self.size += len(data)
        return self.size == len(self.sent)


class Talker(asyncio.Protocol):
    """Writes what it is given when it is connected, and ends when it has got `expected` back."""

    def __init__(self, parts, expected, done):
        self.parts = parts
        self.sink = Sink(expected)
        self.done = done
        self.pauses = 0
        self.wrong = None

    def connection_made(self, transport):
        self.transport = transport
        if self.parts:
            transport.write(self.parts[0])
            transport.writelines(self.parts[1:])
            transport.write_eof()

    def pause_writing(self):
        self.pauses += 1

    def resume_writing(self):
        self.pauses -= 1

    def data_received(self, data):
        try:
            self.sink.take(data)
        except Wrong as error:
            self.wrong = error
            self.transport.abort()

    def eof_received(self):
        return False

    def connection_lost(self, error):
        if not self.done.done():
            if self.wrong or error:
                self.done.set_exception(self.wrong or error)
            elif self.sink.sent and not self.sink.size:
                self.done.set_exception(ConnectionResetError("closed before an answer"))
            else:
                self.done.set_result(self.sink.size)


class ClosingTalker(Talker):
    """Closes when it has got everything, instead of ending its writing (there is no half-closing in TLS)."""

    def connection_made(self, transport):
        self.transport = transport
        transport.writelines(self.parts)

    def data_received(self, data):
        super().data_received(data)
        if self.sink.size == len(self.sink.sent):
            self.transport.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        self.transport.close()

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = bytearray(5000)

    def get_buffer(self, size_hint):
        return self.buffer

    def buffer_updated(self, size):
        self.transport.write(bytes(self.buffer[:size]))

    def eof_received(self):
        self.transport.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, wanted, done):
        self.got = []
        self.wanted = wanted
        self.done = done

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.got.append(data)
        if len(self.got) == self.wanted and not self.done.done():
            self.done.set_result(self.got)

    def error_received(self, error):
        if not self.done.done():
            self.done.set_exception(error)

    def connection_lost(self, error):
        if error and not self.done.done():
            self.done.set_exception(error)


def outcome(loop):
    """A future that may fail while nobody waits for it."""
    future = loop.create_future()
    future.add_done_callback(lambda future: future.cancelled() or future.exception())
    return future


@contextlib.asynccontextmanager
async def serving(server):
    """A server that is closed, and waited for, whatever happens."""
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


async def callbacks(loop, folder):
    """Handles and timers in number, contexts, tasks and futures, other threads, errors told to the handler."""
    ran = []
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 7)
    loop.call_soon(lambda: ran.append(variable.get()), context=context)
    handles = [loop.call_soon(ran.append, number) for number in range(100)]
    handles[3].cancel()
    timers = [loop.call_later(0.001 * (number % 7), ran.append, 1000 + number) for number in range(100)]
    for timer in timers[::2]:
        timer.cancel()
    loop.call_at(loop.time() + 0.001, ran.append, 2000)
    await asyncio.to_thread(loop.call_soon_threadsafe, ran.append, 3000)

    async def child(number):
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return number

    tasks = [loop.create_task(child(number), name=str(number)) for number in range(5)]
    numbers = [await task for task in tasks]
    future = loop.create_future()
    loop.call_soon(future.set_result, 5)
    queue = asyncio.Queue()
    queue.put_nowait(await future)
    await asyncio.sleep(0.02)
    return sorted(ran), numbers, await queue.get()


async def options(loop, folder):
    """What a loop is asked and told about itself."""
    loop.set_debug(True)
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
    await loop.create_task(asyncio.sleep(0))
    loop.set_task_factory(None)
    loop.call_soon(int)
    loop.slow_callback_duration = 5.0
    loop.set_debug(False)
    told = []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
    loop.call_soon(int, "x")
    await asyncio.sleep(0.001)
    loop.set_exception_handler(handler)
    return told, loop.is_running(), bool(repr(loop))


async def extension(loop, folder):
    """rloop's C half is imported once more, with a state and types of its own."""
    from rloop import _rloop

    try:
        spec = importlib.util.spec_from_file_location(_rloop.__name__, _rloop.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        class Loop(module.LoopBase):
            pass

        Loop._adopt_methods()
    except BaseException:
        gc.collect()  # the garbage collector looks at what there is of it
        raise
    return sorted(vars(module)), Loop.call_soon is not module.LoopBase.call_soon


async def debugged(loop, folder):
    """Debug mode: where handles come from, what is slow, who runs when something fails, all that is logged."""
    told = []
    logger = logging.getLogger("asyncio")
    previous = loop.get_exception_handler()

    def fail(*args):
        raise ValueError("on purpose")

    def is_news(record):
        return "Executing <" not in record.getMessage() and "on purpose" not in record.getMessage()

    def handler(loop, context):
        if "on purpose" not in str(context.get("exception")):
            return previous(loop, context)
        told.append(context["message"].partition(" at ")[0])
        return fail()

    logger.addFilter(is_news)
    loop.set_exception_handler(handler)
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    try:
        handles = [loop.call_soon(int), loop.call_later(5, int, "many", "more", 10), loop.call_soon_threadsafe(int)]
        handles[1].cancel()
        texts = [repr(handle) for handle in handles]
        loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
        await loop.create_task(asyncio.sleep(0.001), name="one")
        loop.set_task_factory(None)
        sent = [await echo(loop, folder), await sockets(loop, folder), await udp(loop, folder)]
        loop.call_soon(fail, 1, 2, 3)
        await asyncio.sleep(0)
    finally:
        loop.slow_callback_duration = 0.1
        loop.set_debug(False)
        loop.set_exception_handler(previous)
        logger.removeFilter(is_news)
    return len(texts), sent, told


async def echo(loop, folder):
    """A server and clients by Protocol: much data, written in parts; both ends paused and resumed."""
    async with serving(await loop.create_server(Echo, LOCAL, 0)) as address:
        results = []
        for parts in ([SMALL, SMALL], [BIG, SMALL, b"", BIG]):
            done = outcome(loop)
            await loop.create_connection(lambda p=parts, d=done: Talker(p, b"".join(p), d), *address)
            results.append(await done)
        return results


async def buffered(loop, folder):
    async with serving(await loop.create_server(BufferedEcho, LOCAL, 0)) as address:
        done = outcome(loop)
        await loop.create_connection(lambda: Talker([BIG], BIG, done), *address)
        return await done


async def streams(loop, folder):
    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(60_000):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with serving(await asyncio.start_server(serve, LOCAL, 0)) as address:
        reader, writer = await asyncio.open_connection(*address)
        sink = Sink(b"line\n" + SMALL + BIG)
        writer.write(b"line\n")
        sink.take(await reader.readline())
        writer.writelines([SMALL[:100], SMALL[100:]])
        sink.take(await reader.readexactly(len(SMALL)))
        writer.write(BIG)
        writer.write_eof()
        sink.take(await reader.read())
        writer.close()
        await writer.wait_closed()
        return sink.size


async def unix(loop, folder):
    path = os.path.join(folder, "socket")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    async with serving(await loop.create_unix_server(Echo, path)):
        done = outcome(loop)
        transport, _ = await loop.create_unix_connection(lambda: Talker([BIG], BIG, done), path)
        size = await done
    if transport.get_extra_info("peername") is None:
        raise OSError("a transport that does not know its addresses")
    return size, transport.is_closing()


async def servers(loop, folder):
    """Many connections at once; clients that go; a server that is closed with clients, and one that serves for ever."""
    server = await loop.create_server(Echo, LOCAL, 0, start_serving=False, reuse_address=True, backlog=5)
    address = server.sockets[0].getsockname()
    await server.start_serving()
    sockets = [socket.socket() for _ in range(8)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, b"hello")
        answers = [await loop.sock_recv(sock, 10) for sock in sockets]
        if b"" in answers:
            raise ConnectionResetError("closed before an answer")
    finally:
        for sock in sockets:
            sock.close()
    forever = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    forever.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await forever
    server.close()
    await server.wait_closed()
    return answers, server.is_serving()


async def transports(loop, folder):
    """What transports are asked and told while they are open, and after."""
    here, there = socket.socketpair()
    done = outcome(loop)
    transport, protocol = await loop.create_connection(lambda: Talker([b"x"], b"", done), sock=here)
    with there:
        info = [transport.get_extra_info(name) for name in ("sockname", "peername", "none")]
        transport.set_write_buffer_limits(100, 10)
        limits = transport.get_write_buffer_limits()
        transport.pause_reading()
        reading = transport.is_reading()
        transport.resume_reading()
        transport.set_protocol(protocol)
        is_told = transport.get_write_buffer_size() >= 0 and bool(repr(transport))
        transport.abort()
        await done
    if None in info[:2]:
        raise OSError("a transport that does not know its addresses")
    return info, limits, reading, is_told, transport.is_closing()


async def udp(loop, folder):
    wanted = [SMALL[number:] for number in range(0, 400, 20)]
    done = outcome(loop)
    receiver, _ = await loop.create_datagram_endpoint(lambda: Datagrams(len(wanted), done), local_addr=(LOCAL, 0))
    try:
        address = receiver.get_extra_info("sockname")
        other = outcome(loop)
        connected, _ = await loop.create_datagram_endpoint(lambda: Datagrams(0, other), remote_addr=address)
        free, _ = await loop.create_datagram_endpoint(lambda: Datagrams(0, other), local_addr=(LOCAL, 0))
        try:
            for number, data in enumerate(wanted):
                if number % 2:
                    connected.sendto(data)
                else:
                    free.sendto(data, address)
                await asyncio.sleep(0)
            await asyncio.wait([done, other], return_when=asyncio.FIRST_COMPLETED)
            if other.done():
                other.result()
            got = done.result()
        finally:
            connected.close()
            free.abort()
    finally:
        receiver.close()
    if not set(got) <= set(wanted) or len(set(got)) != len(got):
        raise Wrong("datagrams")
    return len(got)


async def sockets(loop, folder):
    with socket.socket() as listener, socket.socket() as client:
        listener.bind((LOCAL, 0))
        listener.listen()
        for sock in (listener, client):
            sock.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        server, _ = await accepting
        with server:
            await both(loop.sock_sendall(client, BIG), receive(loop, server, Sink(BIG)))
    with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
        left.bind((LOCAL, 0))
        for sock in (left, right):
            sock.setblocking(False)
        buffer = bytearray(2000)
        await loop.sock_sendto(right, SMALL, left.getsockname())
        data, _ = await loop.sock_recvfrom(left, 2000)
        await loop.sock_sendto(right, SMALL, left.getsockname())
        size, _ = await loop.sock_recvfrom_into(left, buffer)
        return Sink(SMALL).take(data), Sink(SMALL).take(bytes(buffer[:size]))


async def both(*coroutines):
    """Run them beside each other; an error of one ends the other."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [task.result() for task in sorted(tasks, key=lambda task: not task.done())]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def receive(loop, sock, sink):
    """The first half as bytes, the second into a buffer."""
    buffer = bytearray(100_000)
    while sink.size < len(sink.sent) // 2:
        sink.take(await receive_some(loop.sock_recv(sock, 100_000)))
    while sink.size < len(sink.sent):
        sink.take(bytes(buffer[: await receive_some(loop.sock_recv_into(sock, buffer))]))


async def receive_some(awaitable):
    some = await awaitable
    if not some:
        raise EOFError
    return some


async def refused(loop, folder):
    """Connections that nobody takes."""
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        address = sock.getsockname()
    errors = []
    try:
        await loop.create_connection(Echo, *address)
    except ConnectionRefusedError as error:
        errors.append(str(error))
    try:
        await loop.create_unix_connection(Echo, os.path.join(folder, "nobody"))
    except FileNotFoundError as error:
        errors.append(str(error))
    return len(errors)


async def pipes(loop, folder):
    read_end, write_end = os.pipe()
    reader = open(read_end, "rb", 0)
    writer = open(write_end, "wb", 0)
    with reader, writer:
        done = outcome(loop)
        sink = Sink(BIG)

        class Reading(asyncio.Protocol):
            def data_received(self, data):
                try:
                    sink.take(data)
                except Wrong as error:
                    done.set_exception(error)

            def connection_lost(self, error):
                if not done.done():
                    done.set_exception(error) if error else done.set_result(sink.size)

        read_transport, _ = await loop.connect_read_pipe(Reading, reader)
        try:
            lost = outcome(loop)
            write_transport, _ = await loop.connect_write_pipe(lambda: Talker([], b"", lost), writer)
            write_transport.write(BIG[:400_000])
            write_transport.writelines([BIG[400_000:500_000], BIG[500_000:]])
            write_transport.close()
            await lost
            size = await done
        finally:
            read_transport.close()
    return size, await read_pipe(loop)


async def read_pipe(loop):
    """A pipe read by a StreamReader."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as reading, open(write_end, "wb", 0) as writing:
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reading)
        sink = Sink(BIG[:60_000])
        try:
            for start in range(0, 60_000, 20_000):
                writing.write(BIG[start : start + 20_000])
                sink.take(await reader.readexactly(20_000))
        finally:
            transport.close()
        return sink.size


async def watches(loop, folder):
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        events = []
        done = outcome(loop)

        def readable():
            events.append(here.recv(100))
            if len(events) == 3:
                loop.remove_reader(here)
                done.set_result(None)

        def writable():
            there.send(b"12345"[: 1 + len(events)])
            if len(events) == 2:
                loop.remove_writer(there)

        loop.add_reader(here, readable)
        loop.add_writer(there, writable)
        loop.add_reader(here, readable)
        try:
            await done
        finally:
            loop.remove_reader(here)
            loop.remove_writer(there)
        return b"".join(events)[:3], loop.remove_reader(here)


async def processes(loop, folder):
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def feed():  # communicate() would tell nobody that the pipe broke
        process.stdin.write(BIG)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()

    try:
        _, out = await both(feed(), process.stdout.read())
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):  # the pipe's end may be what nobody could be told of
            await asyncio.wait_for(process.communicate(), 0.5)  # wait() would wait for a reader that is full
        raise
    sink = Sink(BIG)
    sink.take(out)
    return sink.size, await process.wait()


async def signals(loop, folder):
    done = outcome(loop)
    loop.add_signal_handler(signal.SIGUSR1, lambda: done.done() or done.set_result("signal"))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        result = await done
    finally:
        removed = loop.remove_signal_handler(signal.SIGUSR1)
    return result, removed


async def threads(loop, folder):
    numbers = [await loop.run_in_executor(None, abs, -number) for number in range(3)]
    infos = await loop.getaddrinfo(LOCAL, 80, type=socket.SOCK_STREAM)
    name = await loop.getnameinfo((LOCAL, 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    await loop.shutdown_default_executor()
    return numbers, infos, name


async def sending_files(loop, folder):
    with open(os.path.join(folder, "file"), "w+b") as file:
        file.write(BIG)
        file.flush()
        async with serving(await loop.create_server(Echo, LOCAL, 0)) as address:
            done = outcome(loop)
            transport, _ = await loop.create_connection(lambda: ClosingTalker([], BIG, done), *address)
            sent = [await loop.sendfile(transport, file), await done]
            here, there = socket.socketpair()
            with here, there:
                here.setblocking(False)
                there.setblocking(False)
                sending = loop.sock_sendfile(here, file, 0, 300_000)
                sent += await both(sending, receive(loop, there, Sink(BIG[:300_000])))
            return sent


def contexts(folder):
    """Contexts with one key pair of an authority of our own, made once."""
    path = os.path.join(folder, "localhost.pem")
    if not os.path.exists(path):
        import trustme

        authority = trustme.CA()
        authority.issue_cert("localhost", LOCAL).private_key_and_cert_chain_pem.write_to_path(path)
        authority.cert_pem.write_to_path(path, append=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=path)
    return server, client


async def tls(loop, folder):
    server_context, client_context = contexts(folder)
    async with serving(await loop.create_server(Echo, LOCAL, 0, ssl=server_context)) as address:
        results = []
        for parts in ([SMALL, SMALL], [BIG, SMALL]):
            done = outcome(loop)
            transport, _ = await loop.create_connection(
                lambda p=parts, d=done: ClosingTalker(p, b"".join(p), d),
                *address,
                ssl=client_context,
                server_hostname="localhost",
            )
            results.append(await done)
        return results, transport.get_extra_info("cipher") is not None


async def tls_streams(loop, folder):
    server_context, client_context = contexts(folder)

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            await writer.start_tls(server_context)
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with serving(await asyncio.start_server(serve, LOCAL, 0)) as address:
        reader, writer = await asyncio.open_connection(*address)
        await writer.start_tls(client_context, server_hostname="localhost")
        lines = []
        for number in range(3):
            writer.write(b"%d\n" % number)
            await writer.drain()
            lines.append(await reader.readline())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return lines


PROGRAMS = {
    program.__name__: program
    for program in (
        callbacks,
        options,
        extension,
        debugged,
        echo,
        buffered,
        streams,
        unix,
        servers,
        transports,
        udp,
        sockets,
        refused,
        pipes,
        watches,
        processes,
        signals,
        threads,
        sending_files,
        tls,
        tls_streams,
    )
}
if importlib.util.find_spec("trustme") is None:  # not to be had without a GIL
    del PROGRAMS["tls"], PROGRAMS["tls_streams"]

if __name__ == "__main__":  # on a loop, without faults: programs.py LOOP [PROGRAM...]
    import tempfile

    sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
    from support import LOOPS, load

    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[2:] or PROGRAMS:
            with asyncio.Runner(loop_factory=load(LOOPS[sys.argv[1]])) as runner:
                print(name, runner.run(PROGRAMS[name](runner.get_loop(), folder)))
