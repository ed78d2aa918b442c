# SPDX-License-Identifier: MIT
"""Several writes in one callback: whatever the transport does with them, every byte comes, in order, in time."""

import asyncio
import socket

import pytest


class Recorder(asyncio.Protocol):
    def __init__(self):
        self.calls = []
        self.lost = asyncio.get_running_loop().create_future()

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, error):
        self.lost.set_result(error)


async def connected(loop):
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    return transport, protocol, peer


def received(peer):
    chunks = []
    try:
        while chunk := peer.recv(2**20):
            chunks.append(chunk)
    except BlockingIOError:
        pass
    return b"".join(chunks)


async def settle(transport, peer):
    """Several writes in one callback, twice: a transport that learns has learnt it now."""
    for _ in range(2):
        transport.write(b"1")
        transport.write(b"2")
        await asyncio.sleep(0)
        assert received(peer) == b"12"


def test_the_first_write_of_a_callback_is_seen_at_once(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        for _ in range(3):
            transport.write(b"alone")
            assert received(peer) == b"alone"
            await asyncio.sleep(0)
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


@pytest.mark.ours("3.15's own keeps the pieces before the one for which there was no memory")
@pytest.mark.parametrize("is_peer_there", [True, False])
def test_writelines_without_memory(loop, is_peer_there):
    """Whichever allocation fails, also when the sending fails too: MemoryError, and none of the pieces or all of them
    are written; the transport ends as others do."""
    testcapi = pytest.importorskip("_testcapi", reason="only there can an allocation be made to fail")
    pieces = [bytes([number]) * (100 + number % 2 * 2000) for number in range(100)]
    everything = b"".join(pieces)

    async def main(failing):
        transport, protocol, peer = await connected(loop)
        await asyncio.sleep(0)
        transport.pause_reading()
        if not is_peer_there:
            peer.close()
        testcapi.set_nomemory(failing, failing + 1)
        try:
            transport.writelines(pieces)
        except MemoryError:
            errors.append(failing)
        finally:
            testcapi.remove_mem_hooks()
        if is_peer_there:
            pending = transport.get_write_buffer_size()
            data = received(peer)
            assert everything.startswith(data) and len(data) + pending in (0, len(everything))
            peer.close()
        transport.abort()
        await protocol.lost

    errors = []
    loop.set_exception_handler(lambda *args: None)
    for failing in range(1, 40):
        loop.run_until_complete(main(failing))
    assert errors


@pytest.mark.ours("3.15's own keeps the pieces before the one for which there was no memory")
def test_writelines_without_memory_behind_what_waits(loop):
    testcapi = pytest.importorskip("_testcapi", reason="only there can an allocation be made to fail")
    pieces = [bytes([number]) * (100 + number % 2 * 2000) for number in range(20)]

    async def main():
        transport, protocol, peer = await connected(loop)
        written = [b"-" * 2**20, b"tail"]
        for data in written:
            transport.write(data)
        failures = 0
        for failing in range(1, 40):
            testcapi.set_nomemory(failing, failing + 1)
            try:
                transport.writelines(pieces)
                testcapi.remove_mem_hooks()
                written += pieces
            except MemoryError:
                testcapi.remove_mem_hooks()
                failures += 1
            transport.write(b"|")
            written.append(b"|")
        assert failures
        transport.close()
        data = b""
        while not protocol.lost.done():
            data += received(peer)
            await asyncio.sleep(0)
        assert data + received(peer) == b"".join(written)
        peer.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("how", ["write", "writelines"])
def test_bytes_whose_finalizer_aborts_the_transport(loop, how):
    class Data(bytes):
        def __del__(self):
            finalized.append(True)
            self.transport.abort()

    def write(transport):
        data = Data(b"x" * 3000)
        data.transport = transport
        transport.write(b"first")
        if how == "write":
            transport.write(data)
            transport.write(data)
        else:
            transport.writelines([data, data])

    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        loop.call_soon(write, transport)
        assert await protocol.lost is None
        received(peer)
        peer.close()

    finalized = []
    loop.run_until_complete(main())
    assert finalized == [True]


@pytest.mark.parametrize("count", [2, 3, 50, 200])
def test_what_a_callback_writes_is_with_the_peer_when_the_next_one_runs(loop, count):
    async def main():
        transport, protocol, peer = await connected(loop)
        for number in range(3):
            parts = [b"%d-%d;" % (number, i) for i in range(count)]
            for part in parts:
                transport.write(part)
            seen = loop.create_future()
            loop.call_soon(lambda seen=seen: seen.set_result(received(peer)))
            assert await seen == b"".join(parts)
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "ask",
    [
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.is_closing(),
        lambda transport: transport.get_extra_info("socket"),
        lambda transport: transport.close(),
        lambda transport: transport.abort(),
        lambda transport: transport.write_eof(),
    ],
    ids=["get_write_buffer_size", "is_closing", "get_extra_info", "close", "abort", "write_eof"],
)
def test_asking_or_ending_sends_what_was_written_before(loop, ask):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        transport.write(b"head")
        transport.write(b"body")
        ask(transport)
        assert received(peer) == b"headbody"
        transport.abort()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


def test_nothing_is_unsent_while_the_kernel_takes_it(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        for _ in range(10):
            transport.write(b"x" * 100)
            assert transport.get_write_buffer_size() == 0
        assert received(peer) == b"x" * 1000
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


def test_writing_pauses_only_when_the_kernel_is_full(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        transport.set_write_buffer_limits(high=50_000)
        for _ in range(60):
            transport.write(b"x" * 1000)  # over the limit in all, and the socket has room for it
        assert protocol.calls == []
        await asyncio.sleep(0)
        assert len(received(peer)) == 60_000
        while protocol.calls == []:
            transport.write(b"x" * 10_000)
        assert protocol.calls == ["pause"] and transport.get_write_buffer_size() > 50_000
        while "resume" not in protocol.calls:
            received(peer)
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


def test_writes_and_writelines_keep_their_order(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        transport.write(b"a")
        transport.writelines([b"b", b"c"])
        transport.write(bytearray(b"d"))
        transport.writelines([memoryview(b"e")])
        await asyncio.sleep(0)
        assert received(peer) == b"abcde"
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


def test_a_mutable_buffer_may_change_after_write(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        data = bytearray(b"x" * 5000)
        transport.write(data)
        transport.write(data)
        data[:] = b"y" * 5000
        await asyncio.sleep(0)
        assert received(peer) == b"x" * 10_000
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


def test_writes_that_fail_end_the_connection(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        peer.close()
        transport.write(b"head")
        transport.write(b"body")
        error = await protocol.lost
        assert isinstance(error, (BrokenPipeError, ConnectionResetError, type(None)))

    loop.run_until_complete(main())


def test_a_callback_that_raises_has_written_all_the_same(loop):
    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)

        def fails():
            transport.write(b"head")
            transport.write(b"body")
            raise ZeroDivisionError

        loop.set_exception_handler(lambda loop, context: None)
        loop.call_soon(fails)
        await asyncio.sleep(0)
        assert received(peer) == b"headbody"
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())


def test_writes_outside_a_running_loop_go_out_at_once(loop):
    transport, protocol, peer = loop.run_until_complete(connected(loop))
    loop.run_until_complete(settle(transport, peer))
    transport.write(b"head")
    transport.write(b"body")
    assert received(peer) == b"headbody"
    transport.close()
    loop.run_until_complete(protocol.lost)
    peer.close()


def test_stopping_the_loop_holds_nothing_back(loop):
    transport, protocol, peer = loop.run_until_complete(connected(loop))
    loop.run_until_complete(settle(transport, peer))

    def last():
        transport.write(b"head")
        transport.write(b"body")
        loop.stop()

    loop.call_soon(last)
    loop.run_forever()
    assert received(peer) == b"headbody"
    transport.close()
    loop.run_until_complete(protocol.lost)
    peer.close()


@pytest.mark.parametrize("kind", ["files", "datagrams"])
def test_what_one_file_s_callback_writes_is_there_in_the_next_one_s(loop, kind):
    """Both are ready in the same turn, in whatever order."""

    async def main():
        transport, protocol, peer = await connected(loop)
        await settle(transport, peer)
        seen = []

        def ready():
            if not seen:
                transport.write(b"1")
                transport.write(b"2")
            seen.append(received(peer) if seen else b"")

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                ready()

        endpoints, senders = [], []
        for _ in range(2):
            end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.setblocking(False)
            end.bind(("127.0.0.1", 0))
            sender.connect(end.getsockname())
            senders.append(sender)
            if kind == "files":
                loop.add_reader(end, lambda end=end: (end.recv(10), ready()))
                endpoints.append(end)
            else:
                endpoints.append((await loop.create_datagram_endpoint(Receiver, sock=end))[0])
        for sender in senders:
            sender.send(b"x")
        while len(seen) < 2:
            await asyncio.sleep(0)
        assert seen == [b"", b"12"]
        for end, sender in zip(endpoints, senders, strict=True):
            if kind == "files":
                loop.remove_reader(end)
            end.close()
            sender.close()
        transport.close()
        await protocol.lost
        peer.close()

    loop.run_until_complete(main())
