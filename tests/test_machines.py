# SPDX-License-Identifier: MIT
"""Stateful machines: rules that Hypothesis puts in any order, beside a model of what must come of them.

The timer heap, the write buffer and reading are reached through a loop, on a clock that only the machine moves and over
sockets of the kernel's; the contract of csrc/core.h by programs of bytes for tests/native/fuzz_contract.c, on both
cores and the scripted one.  `make test-machines` builds that and runs more of all of them.
"""

import asyncio
import os
import socket
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from support import load, pattern

EXAMPLES = int(os.environ.get("RLOOP_TEST_MACHINES", 20))
CONTRACT_PROGRAMS = os.environ.get("RLOOP_CONTRACT_PROGRAMS")
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize="RLOOP_TEST_MACHINES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


class Machine(stateful.RuleBasedStateMachine):
    spec = None  # module:callable of the loop

    def __init__(self):
        super().__init__()
        self.loop = self.make_loop()
        self.errors = []
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))

    def make_loop(self):
        return load(self.spec)()

    def turns(self, count=1):
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def teardown(self):
        self.loop.close()
        assert not self.errors


class Timers(Machine):
    """What is due runs, once, in the order of its time; what was cancelled does not."""

    def make_loop(self):
        class Clock(load(self.spec)):
            now = 1000.0

            def time(self):
                return self.now

        return Clock()

    def __init__(self):
        super().__init__()
        self.is_ours = "rloop" in self.spec
        self.timers = {}  # number -> handle, of those that have neither run nor been cancelled
        self.whens = {}
        self.ran = []
        self.queued = []

    def schedule(self, delay, then=None):
        number = len(self.whens)
        self.whens[number] = self.loop.now + delay
        self.timers[number] = self.loop.call_at(self.whens[number], self.run, number, then)

    def run(self, number, then):
        assert self.timers.pop(number) is not None
        assert self.whens[number] <= self.loop.now
        self.ran.append(number)
        if then == "schedule":
            self.schedule(0)
        elif then == "cancel":
            for other in list(self.timers)[:3]:
                self.cancel(other)

    def cancel(self, number):
        handle = self.timers.pop(number)
        handle.cancel()
        assert handle.cancelled() and handle.when() == self.whens[number]

    delays = st.one_of(st.integers(-1, 6), st.integers(0, 6 * 1024).map(lambda number: number / 1024))

    @rule(delay=delays, then=st.sampled_from([None, None, None, "schedule", "cancel"]))
    def schedule_one(self, delay, then):
        self.schedule(delay, then)

    @rule(delays=st.lists(delays, min_size=5, max_size=40))
    def schedule_many(self, delays):
        for delay in delays:
            self.schedule(delay)

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def cancel_some(self, data):
        for number in data.draw(st.sets(st.sampled_from(sorted(self.timers)))):
            self.cancel(number)

    @rule(seconds=delays.filter(lambda seconds: seconds >= 0))
    def pass_time(self, seconds):
        self.loop.now += seconds
        before = {number: self.whens[number] for number in self.timers}
        self.ran.clear()
        self.turns()
        due = [number for number in self.ran if number in before]
        # asyncio's heap knows no order of equal times; ours is that of their scheduling
        keys = [(before[number], number if self.is_ours else 0) for number in due]
        assert keys == sorted(keys)

    @invariant()
    def nothing_is_late(self):
        """What was due when the last turn began has run, but what callbacks have scheduled since."""
        late = [number for number in self.timers if self.whens[number] <= self.loop.now]
        if late:
            self.turns(2)
            assert not [number for number in late if number in self.timers]

    def teardown(self):
        self.loop.now += 100
        self.turns(3)
        assert not self.timers
        super().teardown()


class Written(asyncio.Protocol):
    def __init__(self):
        self.is_paused = False
        self.lost = None

    def pause_writing(self):
        assert not self.is_paused
        self.is_paused = True

    def resume_writing(self):
        assert self.is_paused
        self.is_paused = False

    def connection_lost(self, error):
        assert self.lost is None
        self.lost = (error,)


class WriteBuffer(Machine):
    """Every byte goes out once, in order; the protocol is paused while more than the high watermark waits."""

    @initialize()
    def connect(self):
        ours, self.peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.peer.setblocking(False)
        connecting = self.loop.create_connection(Written, sock=ours)
        self.transport, self.protocol = self.loop.run_until_complete(connecting)
        self.sent = bytearray()
        self.received = bytearray()
        self.high = self.transport.get_write_buffer_limits()[1]
        self.has_ended = False

    sizes = st.sampled_from([0, 1, 100, 3000, 9000, 40_000, 200_000])

    def give(self, size):
        data = pattern(size, len(self.sent))
        self.sent += data
        return data

    @precondition(lambda self: not self.has_ended)
    @rule(sizes=st.lists(sizes, min_size=1, max_size=4))
    def write(self, sizes):
        for size in sizes:
            self.transport.write(self.give(size))

    @precondition(lambda self: not self.has_ended)
    @rule(sizes=st.lists(sizes, min_size=1, max_size=6))
    def writelines(self, sizes):
        if "rloop" not in self.spec:  # asyncio's loop spins on an empty piece at the end
            sizes = [size or 1 for size in sizes]
        self.transport.writelines([self.give(size) for size in sizes])

    @precondition(lambda self: not self.has_ended)
    @rule(size=sizes)
    def write_what_changes_later(self, size):
        data = bytearray(self.give(size))
        self.transport.write(data)
        if "rloop" in self.spec:  # asyncio's answer depends on the version
            data[:] = bytes(size)

    @rule(high=st.sampled_from([0, 1, 1000, 50_000]))
    def set_limits(self, high):
        self.transport.set_write_buffer_limits(high)
        self.high = high

    @precondition(lambda self: not self.has_ended)
    @rule()
    def write_eof(self):
        self.transport.write_eof()
        self.has_ended = True

    @rule(size=st.sampled_from([1, 5000, 100_000]))
    def read(self, size):
        try:
            self.received += self.peer.recv(size)
        except BlockingIOError:
            pass
        self.turns(2)

    @rule()
    def drain(self):
        while len(self.received) < len(self.sent):
            self.read(1 << 20)
        self.turns(2)
        assert self.transport.get_write_buffer_size() == 0
        assert not self.protocol.is_paused

    @rule()
    def turn(self):
        self.turns()

    @invariant()
    def what_came_was_sent(self):
        if hasattr(self, "received"):
            assert self.sent.startswith(self.received)
            size = self.transport.get_write_buffer_size()
            assert 0 <= size <= len(self.sent) - len(self.received)
            if "rloop" in self.spec:  # asyncio's writelines() pauses in later versions only
                assert self.protocol.is_paused or size <= self.high

    def teardown(self):
        self.transport.close()
        while len(self.received) < len(self.sent):
            self.read(1 << 20)
        self.turns(3)
        assert self.received == self.sent
        assert self.peer.recv(1) == b""
        assert self.protocol.lost == (None,)
        self.peer.close()
        super().teardown()


class Received(asyncio.Protocol):
    def __init__(self, machine):
        self.machine = machine

    def data_received(self, data):
        self.machine.take(data)

    def eof_received(self):
        self.machine.take_eof()
        return True

    def connection_lost(self, error):
        assert error is None and not self.machine.is_lost
        self.machine.is_lost = True


class ReceivedInto(Received, asyncio.BufferedProtocol):
    def __init__(self, machine, size):
        super().__init__(machine)
        self.buffer = bytearray(size)

    def get_buffer(self, hint):
        assert not self.machine.is_paused
        return self.buffer

    def buffer_updated(self, size):
        assert 0 < size <= len(self.buffer)
        self.machine.take(self.buffer[:size])


class Reading(Machine):
    """Every byte comes once, in order, to the protocol of the moment; none while reading is paused; the end is last."""

    @initialize()
    def connect(self):
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.sent = bytearray()
        self.received = bytearray()
        self.is_paused = self.is_lost = self.has_eof = self.is_ended = False
        self.then = None
        connecting = self.loop.create_connection(lambda: Received(self), sock=ours)
        self.transport, _ = self.loop.run_until_complete(connecting)

    def take(self, data):
        assert data and not self.is_paused and not self.has_eof
        self.received += data
        assert self.sent.startswith(self.received)
        then, self.then = self.then, None
        if then is not None:
            then()

    def take_eof(self):
        assert not self.is_paused and self.received == self.sent
        self.has_eof = True  # told again after resume_reading(), as asyncio's transport does

    @precondition(lambda self: not self.is_ended)
    @rule(size=st.sampled_from([1, 500, 20_000, 150_000]))
    def send(self, size):
        data = pattern(size, len(self.sent))
        try:
            self.sent += data[: self.peer.send(data)]
        except BlockingIOError:
            pass

    @precondition(lambda self: not self.is_ended)
    @rule()
    def end(self):
        self.peer.shutdown(socket.SHUT_WR)
        self.is_ended = True

    @rule(inside=st.booleans())
    def pause(self, inside):
        def pause():
            self.transport.pause_reading()
            self.is_paused = True

        self.do(pause, inside)

    @rule()
    def resume(self):
        self.is_paused = False
        self.transport.resume_reading()

    @rule(size=st.sampled_from([None, 1, 100, 70_000]), inside=st.booleans())
    def change_protocol(self, size, inside):
        protocol = Received(self) if size is None else ReceivedInto(self, size)
        self.do(lambda: self.transport.set_protocol(protocol), inside)

    def do(self, action, inside):
        """Now, or when the next bytes come."""
        if inside:
            self.then = action
        else:
            action()

    @rule(count=st.integers(1, 5))
    def turn(self, count):
        self.turns(count)

    def teardown(self):
        self.then = None
        self.is_paused = False
        self.transport.resume_reading()
        self.transport.set_protocol(Received(self))
        while self.received != self.sent:
            self.turns()
        self.peer.close()
        self.turns(3)
        assert self.has_eof
        self.transport.close()
        self.turns(2)
        assert self.is_lost
        super().teardown()


@pytest.mark.parametrize("machine", [Timers, WriteBuffer, Reading])
def test_machine(machine, loop_spec, no_leaks):
    stateful.run_state_machine_as_test(type(machine.__name__, (machine,), {"spec": loop_spec}), settings=SETTINGS)


@pytest.fixture(scope="module")
def contract():
    with subprocess.Popen([CONTRACT_PROGRAMS], stdin=-1, stdout=-1, stderr=-1) as programs:
        os.set_blocking(programs.stderr.fileno(), False)
        yield programs
        programs.stdin.close()


@pytest.mark.skipif(CONTRACT_PROGRAMS is None, reason="make test-machines builds it")
def test_contract(contract):
    """Operations on streams, a watch and a datagram socket, in callbacks and outside; C checks every rule."""

    @settings(SETTINGS, max_examples=EXAMPLES * 10)
    @given(st.lists(st.binary(min_size=1, max_size=8), max_size=60))
    def run(operations):
        program = b"".join(operations)
        contract.stdin.write(struct.pack("=I", len(program)) + program)
        contract.stdin.flush()
        status = contract.stdout.read(1)[0]
        assert status == 0, (status, (contract.stderr.read() or b"").decode())

    run()
