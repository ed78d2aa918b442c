# SPDX-License-Identifier: MIT
"""What scenarios are made of; for workers, so it needs nothing but the standard library.

A module of scenarios/ has a docstring whose first line says what is measured, and CASES; then either

    def run(new_loop, case, seconds) -> Result      in this process; or
    async def serve(loop, case) -> (address, keep)  the worker serves, and
    def client(case) -> [argument, ...]             the load client (bench/native) asks, from another core;
    def limit(case) -> [argument, ...]              what makes the C echo servers serve the same; absent: no C limit.

`address` is the part of the load client's arguments that says where the server is (tcp_address and its like make it);
`keep` is whatever must stay alive while it serves.
"""

import gc
import resource
import ssl
import time
from pathlib import Path


class Case:
    """One row of the table; `parameters` become attributes."""

    def __init__(self, name, *, goal=None, quick=False, extra=False, growth=None, **parameters):
        self.name = name
        self.goal = goal if isinstance(goal, dict) else {"RLoop": goal, "TokioLoop": goal} if goal else {}
        self.quick = quick  # part of bench-quick
        self.extra = extra  # only part of bench-all
        self.growth = growth  # a point of a growth curve: how many there are of what grows; only part of bench-all
        self.__dict__.update(parameters)


def goals(rloop, tokio):
    """Goals that differ, for Case(goal=...)."""
    return {"RLoop": rloop, "TokioLoop": tokio}


class Result:
    """What one run measured.

    operations in `seconds`, at `cpu_seconds` of processor time; `latencies_us` of single operations, if they were
    taken.  `cost` (with its `unit`, less is better) stands instead of both for what is not a rate: bytes of memory, a
    latency.
    """

    def __init__(self, operations, seconds, cpu_seconds, latencies_us=None, *, cost=None, unit=None, extra=None):
        self.fields = {"operations": operations, "seconds": seconds, "cpu_seconds": cpu_seconds}
        if latencies_us:
            self.fields |= {"p50_us": percentile(latencies_us, 50), "p99_us": percentile(latencies_us, 99)}
        if cost is not None:
            self.fields |= {"cost": cost, "unit": unit}
        if extra:
            self.fields["extra"] = extra


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def cpu_seconds():
    """User and system time of this process, all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Measured:
    """`with Measured() as m: ...` takes both clocks around the block; m.result(operations) makes the Result."""

    def __enter__(self):
        gc.collect()
        self.cpu_start, self.start = cpu_seconds(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.start
        self.cpu_seconds = cpu_seconds() - self.cpu_start

    def result(self, operations, latencies_us=None, **more):
        return Result(operations, self.seconds, self.cpu_seconds, latencies_us, **more)


def tcp_address(server):
    """The address of an asyncio server, a socket or a transport on 127.0.0.1, for the load client."""
    sockets = getattr(server, "sockets", None) or [server]
    return ["--tcp", str(sockets[0].getsockname()[1])]


def pattern(size):
    """Bytes that the load client knows: what it compares with where the answer is not an echo."""
    return bytes(i % 251 for i in range(size))


def server_tls():
    """A server's SSLContext, with a certificate and key that are for nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("localhost.pem"))
    return context


def echo_arguments(case):
    """The load client's arguments for messages of case.size in case.connections, case.depth (1) of them at a time."""
    depth = getattr(case, "depth", 1)
    return ["echo", "--size", case.size, "--connections", case.connections, "--depth", depth]
