# SPDX-License-Identifier: MIT
"""asyncio's streams on our transports: what data_received() and StreamReader.feed_data() are seen to do."""

import asyncio
import gc
import random
import socket

import pytest


async def connected(loop, reader_type=asyncio.StreamReader, limit=2**16):
    """A reader and a writer as open_connection() makes them, and the peer's socket."""
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    reader = reader_type(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop), peer


async def closed(writer, peer):
    writer.close()
    await writer.wait_closed()
    peer.close()


@pytest.mark.parametrize("limit", [100, 2**16, 2**20])
def test_every_byte_arrives_in_order(loop, limit):
    sent = random.Random(limit).randbytes(3_000_000)

    async def main():
        reader, writer, peer = await connected(loop, limit=limit)

        async def send():
            at, numbers = 0, random.Random(1)
            while at < len(sent):
                size = numbers.choice([1, 100, 5_000, 70_000, 300_000])
                await loop.sock_sendall(peer, sent[at : at + size])
                at += size
            peer.shutdown(socket.SHUT_WR)

        sending = loop.create_task(send())
        received, numbers = bytearray(), random.Random(2)
        while chunk := await reader.read(numbers.choice([1, 100, 40_000, 500_000])):
            received += chunk
        await sending
        await closed(writer, peer)
        return received

    assert loop.run_until_complete(main()) == sent


def test_a_full_reader_pauses_and_resumes(loop):
    async def main():
        reader, writer, peer = await connected(loop, limit=1000)
        await loop.sock_sendall(peer, b"x" * 1500)
        while len(reader._buffer) < 1500:
            await asyncio.sleep(0)
        assert writer.transport.is_reading() and not reader._paused
        await loop.sock_sendall(peer, b"y" * 501)
        while len(reader._buffer) < 2001:
            await asyncio.sleep(0)
        assert not writer.transport.is_reading() and reader._paused
        assert await reader.readexactly(1002) == b"x" * 1002
        assert writer.transport.is_reading() and not reader._paused
        await closed(writer, peer)

    loop.run_until_complete(main())


def test_a_transport_that_can_not_pause_is_forgotten(loop):
    class Stubborn:
        def pause_reading(self):
            raise NotImplementedError

    async def main():
        reader, writer, peer = await connected(loop, limit=10)
        reader._transport = Stubborn()
        await loop.sock_sendall(peer, b"x" * 100)
        while len(reader._buffer) < 100:
            await asyncio.sleep(0)
        assert reader._transport is None and not reader._paused
        await closed(writer, peer)

    loop.run_until_complete(main())


def test_an_overridden_feed_data_is_called(loop):
    fed = []

    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            fed.append(data)
            super().feed_data(data.upper())

    async def main():
        reader, writer, peer = await connected(loop, Reader)
        await loop.sock_sendall(peer, b"one\n")
        assert await reader.readline() == b"ONE\n"
        await closed(writer, peer)

    loop.run_until_complete(main())
    assert fed == [b"one\n"]


def test_feed_data_replaced_on_a_reader_in_use_is_called(loop):
    fed = []

    async def main():
        reader, writer, peer = await connected(loop)
        for line in (b"one\n", b"two\n"):
            await loop.sock_sendall(peer, line)
            assert await reader.readline() == line
        original = reader.feed_data
        reader.feed_data = lambda data: (fed.append(data), original(data))
        await loop.sock_sendall(peer, b"three\n")
        assert await reader.readline() == b"three\n"
        await closed(writer, peer)

    loop.run_until_complete(main())
    assert fed == [b"three\n"]


def test_an_overridden_data_received_is_called(loop):
    seen = []

    class Protocol(asyncio.StreamReaderProtocol):
        def data_received(self, data):
            seen.append(data)
            super().data_received(data)

    async def main():
        ours, peer = socket.socketpair()
        reader = asyncio.StreamReader(loop=loop)
        protocol = Protocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        for line in (b"one\n", b"two\n"):
            peer.send(line)
            assert await reader.readline() == line
        transport.close()
        await protocol._get_close_waiter(None)
        peer.close()

    loop.run_until_complete(main())
    assert seen == [b"one\n", b"two\n"]


def test_a_view_of_the_buffer_makes_feeding_fail_as_in_asyncio(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        reader, writer, peer = await connected(loop)
        peer.send(b"x" * 40_000)
        while len(reader._buffer) < 40_000:
            await asyncio.sleep(0)
        view = memoryview(reader._buffer)
        peer.send(b"more")
        while not contexts:
            await asyncio.sleep(0)
        view.release()
        with pytest.raises(BufferError):
            await writer.wait_closed()
        assert isinstance(reader.exception(), BufferError)
        peer.close()

    loop.run_until_complete(main())
    assert [context["message"] for context in contexts] == ["Fatal error: protocol.data_received() call failed."]
    assert isinstance(contexts[0]["exception"], BufferError)


def test_a_reader_that_is_gone_is_not_fed(loop):
    async def main():
        reader, writer, peer = await connected(loop)
        peer.send(b"one\n")
        assert await reader.readline() == b"one\n"
        protocol = writer.transport.get_protocol()
        protocol._stream_reader_wr = None
        peer.send(b"two\n")
        await asyncio.sleep(0.02)
        assert not reader._buffer and writer.transport.is_reading()
        await closed(writer, peer)

    loop.run_until_complete(main())
    gc.collect()


def test_feeding_after_the_end_is_an_error_as_in_asyncio(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        reader, writer, peer = await connected(loop)
        peer.send(b"one\n")
        assert await reader.readline() == b"one\n"
        reader.feed_eof()
        peer.send(b"two\n")
        with pytest.raises(AssertionError):
            await writer.wait_closed()
        peer.close()

    loop.run_until_complete(main())
    assert [str(context["exception"]) for context in contexts] == ["feed_data after feed_eof"]


def test_a_cancelled_read_loses_nothing(loop):
    async def main():
        reader, writer, peer = await connected(loop)
        task = loop.create_task(reader.readline())
        await asyncio.sleep(0)
        peer.send(b"one\n")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.readline() == b"one\n"
        await closed(writer, peer)

    loop.run_until_complete(main())


def test_another_protocol_in_the_middle_of_large_reads(loop):
    """A protocol that replaces itself: what comes after goes to the new one, whole."""
    got = bytearray()
    sent = random.Random(3).randbytes(600_000)

    class Collect(asyncio.Protocol):
        def data_received(self, data):
            got.extend(data)

    async def main():
        reader, writer, peer = await connected(loop, limit=2**22)
        sending = loop.create_task(loop.sock_sendall(peer, sent))
        while len(reader._buffer) < 200_000:
            await asyncio.sleep(0)
        writer.transport.set_protocol(Collect())
        await sending
        while len(reader._buffer) + len(got) < len(sent):
            await asyncio.sleep(0)
        assert bytes(reader._buffer) + bytes(got) == sent
        transport = writer.transport
        transport.close()
        await asyncio.sleep(0)
        peer.close()

    loop.run_until_complete(main())
