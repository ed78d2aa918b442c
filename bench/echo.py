# SPDX-License-Identifier: MIT
"""TCP echo by Protocol: server CPU time per request, loop against loop, in interleaved rounds.

    python bench/echo.py [--connections 50] [--size 1024] [--rounds 5] [--seconds 2]

The server runs on one core, the load client (C, epoll) on another.  A round runs every loop once, in turn; the table
shows medians over the rounds, and each loop's ratio to uvloop of the same round (rates: higher is better; CPU: lower is
better).
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

HERE = Path(__file__).parent
LOOPS = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "RLoop": "rloop:RLoop",
    "TokioLoop": "rloop:TokioLoop",
}


def build_client(folder):
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("the load client needs a C compiler (set CC)")
    client = Path(folder, "load_client")
    subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-o", client, HERE / "load_client.c"], check=True)
    return client


def pin(core):
    """The part of a command line that keeps a process on one core; nothing where that can't be done."""
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def echo_server(loop):
    server = subprocess.Popen(
        [*pin(0), sys.executable, HERE / "echo_server.py", loop], stdout=subprocess.PIPE, text=True
    )
    try:
        port = server.stdout.readline().strip()
        if not port:
            raise SystemExit(f"the server on {loop} did not start")
        yield server.pid, port
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def cpu_seconds(process):
    times = process.cpu_times()
    return times.user + times.system


def measure(client, loop, args):
    with echo_server(loop) as (pid, port):
        command = [*pin(1), client, port, str(args.connections), str(args.size), "0.5", str(args.seconds)]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        server = psutil.Process(pid)
        load.stdout.readline()
        before = cpu_seconds(server)
        result = load.stdout.readline()
        after = cpu_seconds(server)
        if load.wait() != 0 or not result:
            raise SystemExit(f"the load client failed on {loop}")
        load.stdout.close()
    result = json.loads(result)
    result["cpu_us"] = (after - before) / result["requests"] * 1e6
    result["rate"] = result["requests"] / result["seconds"]
    return result


def print_table(rounds, args):
    print(f"\nTCP echo, Protocol, {args.connections} connections, {args.size} bytes, {args.rounds} rounds")
    print(f"{'loop':12}{'requests/s':>12}{'p99 us':>9}{'CPU us/request':>16}{'rate/uvloop':>13}{'CPU/uvloop':>12}")
    for name in args.loops:

        def median(key, name=name):
            return statistics.median(results[name][key] for results in rounds)

        def ratio(key, name=name):
            if "uvloop" not in args.loops:
                return float("nan")
            return statistics.median(results[name][key] / results["uvloop"][key] for results in rounds)

        print(
            f"{name:12}{median('rate'):12,.0f}{median('p99_us'):9.0f}{median('cpu_us'):16.2f}"
            f"{ratio('rate'):13.2f}{ratio('cpu_us'):12.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a message")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of each run")
    parser.add_argument("--loops", nargs="+", default=list(LOOPS), choices=list(LOOPS))
    args = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        client = build_client(folder)
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", end="", flush=True)
            results = {}
            for name in args.loops:
                results[name] = measure(client, LOOPS[name], args)
                print(f"  {name} {results[name]['cpu_us']:.2f} us", end="", flush=True)
            print()
            rounds.append(results)
    print_table(rounds, args)


if __name__ == "__main__":
    main()
