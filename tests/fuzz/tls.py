# SPDX-License-Identifier: MIT
"""Mutated TLS input: a client's records, cut, flipped, repeated, moved or mixed with garbage, into both loops' servers.

    python tests/fuzz/tls.py [--seconds N | --seed N | --programs N]

A program is a seed: it chooses the loop, the TLS version, the protocol's kind, how the stream is split into sends and
what is done to it at which record.  Whatever comes in, the protocol gets a prefix of what the client sent and no byte
else; it is told of the end of a connection that was made once, and never of one that wasn't; nothing hangs, nothing
reaches the exception handler and no fd is left.  A failure names its seed.  The seeds of tests/fuzz/corpus/tls come
first.
"""

import argparse
import asyncio
import gc
import os
import random
import socket
import ssl
import sys
import time
from pathlib import Path

import trustme

import rloop

LOOPS = [rloop.RLoop, rloop.TokioLoop]
CORPUS = Path(__file__).parent / "corpus" / "tls" / "seeds.txt"
LIMIT = 20


class Sink(asyncio.Protocol):
    def __init__(self):
        self.made = self.lost = 0
        self.data = bytearray()

    def connection_made(self, transport):
        self.made += 1
        self.transport = transport

    def data_received(self, data):
        assert self.made == 1 and self.lost == 0
        self.data += data
        self.transport.write(data[:100])

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        self.lost += 1


class BufferedSink(Sink, asyncio.BufferedProtocol):
    data_received = None

    def get_buffer(self, sizehint):
        self.buffer = bytearray(random.Random(sizehint).choice([1, 100, 65536]))
        return self.buffer

    def buffer_updated(self, count):
        assert self.made == 1 and self.lost == 0
        self.data += self.buffer[:count]


def contexts():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


def records(data):
    """What a TLS client wrote, record by record."""
    pieces = []
    while data:
        size = 5 + int.from_bytes(data[3:5])
        pieces.append(data[:size])
        data = data[size:]
    return pieces


class Mutator:
    """Does something to one record of a program, or to none."""

    def __init__(self, dice):
        self.dice = dice
        self.at = dice.randrange(14)  # often after the last: then nothing may be lost
        self.seen = 0
        self.held = b""
        self.is_done = False

    def __call__(self, record):
        self.seen += 1
        if self.held:
            record, self.held = record + self.held, b""
        if self.seen - 1 != self.at:
            return record
        self.is_done = True
        dice, changed = self.dice, bytearray(record)
        place = dice.choice([0, 1, 3, 4, 5, dice.randrange(len(record))]) % len(record)
        match dice.randrange(9):
            case 0:
                changed[place] ^= 1 << dice.randrange(8)
            case 1:
                changed[place] = dice.choice([0, 1, 0x14, 0x15, 0x16, 0x17, 0x18, 0x40, 0x7F, 0xFF])
            case 2:
                changed[3:5] = dice.choice([0, 1, 16384, 16385, 18432, 18433, 65535]).to_bytes(2)
            case 3:
                del changed[place : place + dice.randrange(1, 40)]
            case 4:
                changed[place:place] = dice.randbytes(dice.randrange(1, 40))
            case 5:
                changed += record
            case 6:
                self.held = record
                return b""
            case 7:
                changed[0:0] = dice.randbytes(dice.choice([1, 5, 300, 70000]))
            case 8:
                changed[0:0] = b"\x17\x03\x03\x00\x00" * dice.randrange(1, 40)
        return bytes(changed)


class Client:
    """A TLS client in memory whose records go through a mutator into a socket."""

    def __init__(self, dice, context, sock):
        self.dice, self.sock = dice, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.mutate = Mutator(dice)
        self.sent = bytearray()

    async def push(self):
        loop = asyncio.get_running_loop()
        stream = b"".join(self.mutate(record) for record in records(self.outgoing.read()))
        while stream:
            size = self.dice.choice([1, 2, 4, 5, 6, 17, 100, 5000, 100000])
            if len(stream) > 3000:
                size += 500
            await loop.sock_sendall(self.sock, stream[:size])
            stream = stream[size:]
            if self.dice.randrange(3) == 0:
                await asyncio.sleep(0)

    async def pull(self):
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        self.incoming.write(data) if data else self.incoming.write_eof()
        return bool(data)

    async def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.push()
                async with asyncio.timeout(0.2 if self.mutate.is_done else LIMIT):
                    if not await self.pull():
                        raise ConnectionResetError from None
            else:
                return await self.push()

    async def run(self):
        await self.handshake()
        for _ in range(self.dice.randrange(1, 8)):
            data = self.dice.randbytes(self.dice.choice([0, 1, 10, 1000, 16384, 40000]))
            if data:
                self.tls.write(data)
            self.sent += data
            await self.push()
        if self.dice.randrange(2):
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
            await self.push()


async def program(dice, server_context, client_context):
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setblocking(False)
    client_context.maximum_version = dice.choice([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    sink = dice.choice([Sink, BufferedSink])()
    accepting = asyncio.ensure_future(
        loop.connect_accepted_socket(lambda: sink, ours, ssl=server_context, ssl_shutdown_timeout=1)
    )
    client = Client(dice, client_context, theirs)
    try:
        await client.run()
    except (OSError, TimeoutError, ssl.SSLError):
        assert client.mutate.is_done, "failed without a mutation"
    theirs.shutdown(socket.SHUT_WR)
    results = await asyncio.gather(accepting, return_exceptions=True)
    is_made = not isinstance(results[0], BaseException)
    assert is_made or isinstance(results[0], OSError), results
    assert is_made or not sink.data, "data without a handshake"
    while sink.made > sink.lost:
        try:
            async with asyncio.timeout(0.01):  # as a peer that reads what it is sent
                if not await loop.sock_recv(theirs, 65536):
                    break
        except (OSError, TimeoutError):
            pass
    theirs.close()
    while sink.made > sink.lost:
        await asyncio.sleep(0.001)
    assert sink.made == sink.lost == is_made, (sink.made, sink.lost, is_made)
    assert client.sent.startswith(sink.data), "other bytes than were sent"
    # With small buffers asyncio's SSLProtocol, whose code this is, drops what it has not delivered when the end comes.
    assert client.mutate.is_done or sink.data == client.sent or type(sink) is BufferedSink, "lost bytes"


def run(seed, server_context, client_context):
    dice = random.Random(seed)
    loop = LOOPS[seed % 2]()
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    try:
        loop.run_until_complete(asyncio.wait_for(program(dice, server_context, client_context), LIMIT))
    finally:
        loop.close()
    assert not errors, errors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--programs", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    server_context, client_context = contexts()
    seeds = [int(line) for line in CORPUS.read_text().split()] if options.seed is None else [options.seed]
    first = random.SystemRandom().randrange(1 << 40)
    end = time.monotonic() + options.seconds
    count = 0
    fds = None
    while count < len(seeds) or (
        options.seed is None and (count < options.programs if options.programs is not None else time.monotonic() < end)
    ):
        seed = seeds[count] if count < len(seeds) else first + count
        try:
            run(seed, server_context, client_context)
        except BaseException:
            print(f"TLS: failed; again: {sys.argv[0]} --seed {seed}", file=sys.stderr, flush=True)
            raise
        count += 1
        if count % 100 == 2:
            gc.collect()
            now = len(os.listdir("/dev/fd"))
            fds = now if fds is None else fds
            assert now <= fds, f"{now - fds} fds left over"
    print(f"TLS: {count} executions")


main()
