# SPDX-License-Identifier: MIT
"""Runs cases: in each of their rounds every loop once, in a process of its own, in an order that rotates.

What comes back of one run (a cell) is a dict: operations, seconds, cpu_seconds, and p50_us, p99_us or cost, unit
where they were measured; or {"failed": "..."} that says why there is nothing.  A loop that fails is not run again in
this case.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import loops as known_loops
import programs
from loops import LIMITS

HERE = Path(__file__).resolve().parent
START_SECONDS = 20  # for a worker to import what it needs
GRACE_SECONDS = 15  # beyond what a run should take
LIMIT_PROGRAMS = {"C epoll": "echo_epoll", "C libuv": "echo_libuv"}
EXITS = {1: "wrong bytes", 3: "hangs", 4: "closes connections"}  # the load client's


class CellError(Exception):
    """Why a cell has no figures."""


def scenario_names():
    return sorted(path.stem for path in (HERE / "scenarios").glob("*.py") if path.stem != "__init__")


def load_scenario(name):
    return importlib.import_module(f"scenarios.{name}")


def cases_of(name):
    return load_scenario(name).CASES


def choose_cores():
    """A core for the server and one for the client, not two halves of one core; ("", "") where that can't be done."""
    if not hasattr(os, "sched_getaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        return "", ""
    server = cores[0]
    siblings = Path(f"/sys/devices/system/cpu/cpu{server}/topology/thread_siblings_list")
    halves = siblings.read_text().strip() if siblings.exists() else ""
    others = [core for core in cores[1:] if str(core) not in halves.replace("-", ",").split(",")]
    return str(server), str((others or cores[1:])[0])


class Process:
    """A child that prints lines of JSON; what it prints on stderr is kept for the message when it fails."""

    def __init__(self, command, environment):
        self.errors = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,
        )
        self.pid = self.child.pid
        self.poll = select.poll()  # select() is for the first 1024 file descriptors
        self.poll.register(self.child.stdout, select.POLLIN)
        self.buffer = b""

    def line(self, seconds):
        """The next line, within so many seconds."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not self.poll.poll(left * 1000):
                raise CellError("hangs")
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                raise CellError(self.reason())
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def reason(self):
        """Why the child has ended."""
        try:
            code = self.child.wait(5)
        except subprocess.TimeoutExpired:
            return "hangs"
        if code < 0:
            return f"crashed: {signal.Signals(-code).name}"
        return f"fails: {self.last_error() or f'exit code {code}'}"

    def last_error(self):
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # and its children
        self.child.communicate()
        self.errors.close()


@contextlib.contextmanager
def running(command, environment=None):
    """A child with a folder of its own for its temporary files; in the end it is killed, and the folder goes."""
    with tempfile.TemporaryDirectory(prefix="rloop-bench-") as folder:
        environment = {**(os.environ if environment is None else environment), "TMPDIR": folder}
        process = Process([str(word) for word in command], environment)
        try:
            yield process
        finally:
            process.end()


def worker(loop, name, case, seconds, core):
    environment = dict(os.environ)
    if loop.python != sys.executable:
        environment.pop("PYTHONPATH", None)  # it is for this interpreter
    command = [loop.python, HERE / "worker.py", name, case.name, loop.where, seconds, core]
    return running(command, environment)


def message(process, seconds):
    """The next message of a worker; CellError if it is bad news."""
    said = json.loads(process.line(seconds))
    if "lacks" in said:
        raise CellError(f"lacks it: {said['lacks']}")
    if "missing" in said:
        raise CellError(f"not installed: {said['missing']}")
    return said


def run_here(loop, name, case, seconds, cores):
    with worker(loop, name, case, seconds, cores[0]) as process:
        return message(process, START_SECONDS + GRACE_SECONDS + 2 * seconds)["result"]


def ask(server, address, scenario, case, seconds, core):
    """Run the load client against a server; its figures."""
    command = [programs.find("load"), *scenario.client(case), *address, "--pid", server.pid, "--seconds", seconds]
    command += ["--warmup", seconds / 5, *(["--cpu", core] if core else [])]
    with running(command) as client:
        try:
            return json.loads(client.line(GRACE_SECONDS + 2 * seconds))
        except CellError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.child.wait(0.5)  # a server that crashes says more than its client
                raise CellError(server.reason()) from None
            code = client.child.poll()
            trouble = "hangs" if code is None else EXITS.get(code, "the load client fails")
            detail = client.last_error() or server.last_error()
            raise CellError(f"{trouble}: {detail}" if detail else trouble) from None


def run_served(loop, name, case, seconds, cores):
    scenario = load_scenario(name)
    if loop.name in LIMITS:
        core = ["--cpu", cores[0]] if cores[0] else []
        server = running([programs.find(LIMIT_PROGRAMS[loop.name]), *scenario.limit(case), *core])
    else:
        server = worker(loop, name, case, seconds, cores[0])
    with server as process:
        address = message(process, START_SECONDS)["address"]
        return ask(process, address, scenario, case, seconds, cores[1])


def run_cell(loop, name, case, seconds, cores):
    scenario = load_scenario(name)
    cores = cores if getattr(scenario, "PINNED", True) else ("", "")
    try:
        return (run_here if hasattr(scenario, "run") else run_served)(loop, name, case, seconds, cores)
    except CellError as error:
        return {"failed": str(error)}


def loops_of(scenario, loops, with_limits):
    """Those that are asked for, and the C servers if the scenario has something for them to do."""
    return [*loops, *(known_loops.limits() if with_limits and hasattr(scenario, "limit") else [])]


def run_case(name, case, loops, rounds, seconds, on_cell=lambda *_: None):
    """The cells of a case: a dict for each round, by the loops' names."""
    cores, done, failed = choose_cores(), [], {}
    for number in range(rounds):
        cells = {}
        shift = number % len(loops)
        for loop in loops[shift:] + loops[:shift]:
            cells[loop.name] = failed.get(loop.name) or run_cell(loop, name, case, seconds, cores)
            if "failed" in cells[loop.name]:
                failed[loop.name] = cells[loop.name]
            on_cell(number, loop, cells[loop.name])
        done.append(cells)
    return done
