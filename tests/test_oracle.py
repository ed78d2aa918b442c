# SPDX-License-Identifier: MIT
"""Any sequence of things done to a connection, by the program and by its peer, ends as it does on asyncio.

Hypothesis makes the sequences; each runs on asyncio's loop and on ours, and what the protocol was told, what the peer
received and what the calls raised must be the same.
"""

import asyncio
import logging
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import BufferedRecorder, Recorder, load, pattern, turns, within

SIZES = st.sampled_from([0, 1, 10, 3000, 70_000, 600_000])
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("writelines"), st.sampled_from([0, 1, 10])),  # asyncio's does not pause_writing before 3.13.1
    st.tuples(st.sampled_from(["peer sends", "peer sends", "peer reads"]), SIZES),
    st.tuples(st.sampled_from(["pause_reading", "resume_reading", "write_eof", "close", "abort"])),
    st.tuples(st.sampled_from(["peer ends", "peer closes", "change protocol", "small limits", "no turn"])),
)


class KeepsOpen(Recorder):
    def eof_received(self):
        super().eof_received()
        return True


class Failing(Recorder):
    def data_received(self, data):
        super().data_received(data)
        raise ZeroDivisionError


class ClosesInside(Recorder):
    def data_received(self, data):
        super().data_received(data[:1])
        self.transport.close()


class PausesInside(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.pause_reading()


class Answers(Recorder):
    def eof_received(self):
        super().eof_received()
        self.transport.write(b"the end")


PROTOCOLS = [Recorder, BufferedRecorder, KeepsOpen, Failing, ClosesInside, PausesInside, Answers]


class Scene:
    """One transport, its plain peer, and a log of what happens."""

    def __init__(self, transport, protocol, peer):
        self.transport, self.protocol, self.peer = transport, protocol, peer
        self.log = []
        self.received = bytearray()
        self.sent = 0

    async def do(self, name, *arguments):
        try:
            if name == "write":
                self.transport.write(self.next_bytes(*arguments))
            elif name == "writelines":
                if not self.transport.is_closing():  # asyncio raises TypeError
                    self.transport.writelines([self.next_bytes(*arguments), b"", b"more"])
            elif name == "peer sends":
                self.peer_sends(*arguments)
            elif name == "peer reads":
                await self.peer_reads()
            elif name == "peer ends":
                self.peer.shutdown(socket.SHUT_WR)
            elif name == "peer closes":
                await self.peer_reads()
                self.peer.close()
            elif name == "change protocol":
                self.change_protocol()
            elif name == "small limits":
                self.transport.set_write_buffer_limits(high=100, low=10)
            elif name != "no turn":
                getattr(self.transport, name)()
        except (OSError, RuntimeError) as error:
            self.log.append((name, type(error).__name__))
        if name != "no turn":
            await turns(12)

    def next_bytes(self, size):
        self.sent += 1
        return pattern(size, self.sent)

    def peer_sends(self, size):
        """As far as the kernel takes it at once."""
        self.sent += 1
        self.peer.send(pattern(min(size, 60_000), self.sent))

    async def peer_reads(self):
        quiet = 0
        while quiet < 3:
            try:
                chunk = self.peer.recv(1 << 20)
            except BlockingIOError:
                chunk = b""
            except ConnectionResetError:
                self.log.append("the peer got a reset")
                return
            self.received += chunk
            quiet = 0 if chunk else quiet + 1
            await turns(6)

    def change_protocol(self):
        """Its successor is told on; the log stays one."""
        kind = BufferedRecorder if not isinstance(self.protocol, BufferedRecorder) else Recorder
        successor = kind()
        for name in ("events", "data", "transport", "made", "lost", "paused"):
            setattr(successor, name, getattr(self.protocol, name))
        self.protocol = successor
        self.transport.set_protocol(successor)

    def outcome(self):
        lost = self.protocol.lost
        reason = type(lost.result()).__name__ if lost.done() else "open"
        return {
            "events": self.protocol.events,
            "data": bytes(self.protocol.data),
            "peer received": bytes(self.received),
            "log": self.log,
            "lost": reason,
        }


async def play(kind, plan, errors):
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    transport, protocol = await loop.connect_accepted_socket(kind, left)
    scene = Scene(transport, protocol, right)
    for operation in plan:
        await scene.do(*operation)
        # What comes after the end differs: asyncio raises AttributeError here and there.
        if scene.protocol.lost.done() or right.fileno() < 0:
            break
    if right.fileno() >= 0:
        await scene.peer_reads()
    else:
        await turns(20)
    outcome = scene.outcome()
    outcome["messages"] = [context["message"] for context in errors]
    outcome["closing"] = transport.is_closing()
    right.close()
    if not scene.protocol.lost.done():
        transport.abort()
    await scene.protocol.lost
    return outcome


def run_on(factory, kind, plan):
    errors = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: errors.append(context))
        return runner.run(within(play(kind, plan, errors)))


@pytest.fixture(autouse=True)
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.ours("asyncio is what they are compared with")
@pytest.mark.parametrize("kind", PROTOCOLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(OPERATIONS, max_size=12))
def test_any_connection(loop_factory, kind, plan):
    expected = run_on(load("asyncio:SelectorEventLoop"), kind, plan)
    assert run_on(loop_factory, kind, plan) == expected
