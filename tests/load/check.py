# SPDX-License-Identifier: MIT
"""`check.py [--loops rloop,tokio] [--connects N] [--connections N] [--scenes NAME,...]`: load, and what it left.

Each scene is run ten times against one server in a process of its own, and what that holds is looked at after each
tenth.  From the first tenth to the last it must stay flat: memory, file descriptors, objects, blocks, latency; no
connection may be lost twice or for another reason than its peer's, nothing logged, and a server with nothing to do
must do nothing.  Exit code 1 if one of these fails.  The load client is that of the benchmarks.
"""

import argparse
import collections
import contextlib
import json
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import psutil

import programs
import runner

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import LOOPS

SERVER = Path(__file__).with_name("server.py")
TENTHS = 10
MINUTES = 15  # the longest that a tenth may take
MIB = 1 << 20
NOISE = {"p50_us": 2, "p99_us": 4, "cpu_us": 1.3}  # what other programs on the machine may make of them


class World:
    """A server, and what loads it."""

    def __init__(self, server, args):
        self.server, self.args = server, args
        self.ports = self.hear()["ports"]
        self.process = psutil.Process(server.pid)

    def hear(self):
        return json.loads(self.server.line(60))

    def ask(self, what):
        self.server.child.stdin.write(what + b"\n")
        self.server.child.stdin.flush()
        return self.hear()

    def settled(self, count=0):
        """A sample with so many connections open, and none on their way: the next would be the same."""
        deadline = time.monotonic() + 60
        before, sample = None, self.ask(b"sample")
        while sample["open"] != count or before != (sample["made"], sample["fds"]):
            if time.monotonic() > deadline:
                raise SystemExit(f"{sample['open']} connections are open, not {count}")
            time.sleep(0.05)
            before, sample = (sample["made"], sample["fds"]), self.ask(b"sample")
        return sample

    def quiet_cpu(self):
        """The share of a core that a server takes to which nothing happens."""
        before = sum(self.process.cpu_times()[:2])
        time.sleep(0.5)
        return (sum(self.process.cpu_times()[:2]) - before) / 0.5

    def client(self, mode, kind, *arguments):
        """The figures of the load client."""
        command = [programs.find("load"), mode, "--tcp", self.ports[kind], "--pid", self.server.pid, *arguments]
        with runner.running(command) as client:
            return json.loads(client.line(MINUTES * 60))

    @contextlib.contextmanager
    def held(self, kind, count):
        """So many connections that nothing is sent over, from several addresses."""
        with contextlib.ExitStack() as stack:
            socks = []
            for i in range(count):
                socks.append(stack.enter_context(socket.socket()))
                if sys.platform == "linux":  # elsewhere only 127.0.0.1 is there
                    socks[-1].bind((f"127.0.0.{2 + i % 8}", 0))
                socks[-1].connect(("127.0.0.1", self.ports[kind]))
            yield socks


# --- the scenes: a tenth of each; they return the load client's figures and, if it matters, a sample in the middle


def connect(world, *arguments):
    each = world.args.connects // TENTHS
    arguments = ["--connections", 20, "--size", 64, "--seconds", MINUTES * 60, "--operations", each, *arguments]
    return world.client("connect", "Echo", *arguments), None


def storm(world):
    """The same, but each connection ends with an RST, which may come before its bytes are read."""
    return connect(world, "--reset")


def idle(world):
    """All are open and silent; a few others are served beside them."""
    with world.held("Echo", world.args.connections):
        sample = world.settled(world.args.connections)
        sample["quiet"] = world.quiet_cpu()
        return world.client("echo", "Echo", "--connections", 20, "--size", 64, "--seconds", 1), sample


def active(world):
    """All are open and all talk."""
    return world.client("echo", "Echo", "--connections", world.args.connections, "--size", 64, "--seconds", 3), None


def slow(world):
    """Readers that take little at a time of what never ends; a few others are served beside them."""
    stop = threading.Event()

    def read(socks):
        while not stop.is_set():
            for sock in socks:
                sock.recv(4096)
            stop.wait(0.02)

    with world.held("Source", 200) as socks:
        sample = world.settled(200)
        reading = threading.Thread(target=read, args=(socks,))
        reading.start()
        try:
            return world.client("echo", "Echo", "--connections", 20, "--size", 64, "--seconds", 1), sample
        finally:
            stop.set()
            reading.join()


def crumbs(world):
    """The server writes every byte by itself."""
    return world.client("echo", "Crumbs", "--connections", 50, "--size", 1000, "--seconds", 1), None


SCENES = {scene.__name__: scene for scene in (connect, storm, idle, active, slow, crumbs)}


# --- what is flat


def rises(values, ratio, slack=0):
    """The least of the last three is above the most of the first three: no single noisy tenth decides."""
    return min(values[-3:]) > max(values[:3]) * ratio + slack


def troubles(samples, figures, quiet):
    """What of a scene is not flat."""
    found = []
    for name, ratio, slack in (("rss", 1.01, MIB), ("fds", 1, 0), ("objects", 1, 50), ("blocks", 1, 300)):
        if rises([sample[name] for sample in samples], ratio, slack):
            found.append(f"{name} grow")
    costs = {name: [figure[name] for figure in figures] for name in ("p50_us", "p99_us")}
    costs["cpu_us"] = [figure["cpu_seconds"] / figure["operations"] * 1e6 for figure in figures]
    for name, values in costs.items():
        if rises(values, NOISE[name]):
            found.append(f"{name} rises")
    if quiet > 0.1:
        found.append(f"takes {quiet:.0%} of a core in silence")
    last = samples[-1]
    found += [f"{last[name]} {name}" for name in ("lost twice", "lost otherwise") if last[name]]
    return found + last["errors"][:3]


def run_scene(world, name):
    figures, samples, middles = [], [], []
    start, before = time.monotonic(), world.settled()["made"]
    for _ in range(TENTHS):
        figure, middle = SCENES[name](world)
        figures.append(figure)
        samples.append(world.settled())
        if middle is not None:
            middles.append(middle)
    quiet = max([world.quiet_cpu(), *(middle.get("quiet", 0) for middle in middles)])
    found = troubles(samples, figures, quiet)
    if middles:
        found += [
            f"with connections open: {trouble}" for trouble in troubles(middles, figures, 0) if "us" not in trouble
        ]
    seconds = time.monotonic() - start
    made = samples[-1]["made"] - before
    return {
        "seconds": seconds,
        "made": made,
        "figures": figures,
        "samples": samples,
        "middles": middles,
        "found": found,
    }


def row(loop, name, result):
    samples, figures = result["samples"], result["figures"]
    if result["middles"]:
        samples = result["middles"]

    def ends(values, form):
        return f"{form(values[0])} -> {form(values[-1])}"

    def of(name, form=str):
        return ends([sample[name] for sample in samples], form)

    return [
        loop,
        name,
        f"{result['made']:,}",
        f"{result['seconds']:.0f}",
        of("rss", lambda value: f"{value / MIB:.1f}"),
        of("fds"),
        of("objects"),
        of("blocks"),
        *(ends([figure[which] for figure in figures], lambda value: f"{value:.0f}") for which in ("p50_us", "p99_us")),
        ends([figure["cpu_seconds"] / figure["operations"] * 1e6 for figure in figures], lambda value: f"{value:.1f}"),
        "; ".join(result["found"]) or "flat",
    ]


HEAD = "loop,scene,connections,seconds,RSS MiB,fds,objects,blocks,p50 us,p99 us,CPU us,verdict".split(",")


def table(rows):
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    for row in [HEAD, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")


def run_loop(loop, args):
    """A row for each scene."""
    results = {}
    with runner.running([sys.executable, SERVER, LOOPS[loop]]) as server:
        world = World(server, args)
        for name in args.scenes:
            results[name] = run_scene(world, name)
            print(f"rloop: {loop}: {name}: {'; '.join(results[name]['found']) or 'flat'}", file=sys.stderr, flush=True)
        end = world.ask(b"end")
        code = server.child.wait(30)
        if code or end["open"] or end["left_fds"] or end["errors"] or server.last_error():
            results[name]["found"].append(f"ends with {code}, {end['left_fds']} fds left, {server.last_error()}")
    return results


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loops", default="rloop,tokio", type=lambda text: text.split(","))
    parser.add_argument("--scenes", default=",".join(SCENES), type=lambda text: text.split(","))
    parser.add_argument("--connects", default=1_000_000, type=int, help="of scene connect, and of scene storm")
    parser.add_argument("--connections", default=10_000, type=int, help="open at once")
    parser.add_argument("--results", default="build/load.json", type=Path)
    args = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit != resource.RLIM_INFINITY and args.connections > limit - 300:
        args.connections = limit - 300
        print(f"rloop: this process may open {limit} files: {args.connections} connections", file=sys.stderr)
    return args


def main():
    args = options()
    results, rows = {}, []
    for loop in args.loops:
        results[loop] = run_loop(loop, args)
        rows += [row(loop, name, result) for name, result in results[loop].items()]
    args.results.parent.mkdir(parents=True, exist_ok=True)
    args.results.write_text(json.dumps(results))
    table(rows)
    made = collections.Counter()
    for loop, scenes in results.items():
        made[loop] = sum(result["made"] for result in scenes.values())
    print("connections:", ", ".join(f"{loop} {count:,}" for loop, count in made.items()))
    return any(result["found"] for scenes in results.values() for result in scenes.values())


if __name__ == "__main__":
    sys.exit(main())
