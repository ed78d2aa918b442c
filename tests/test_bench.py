# SPDX-License-Identifier: MIT
"""The benchmarks: what the runner makes of loops that work and of loops that don't; the figures; the reports."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.append(str(BENCH))

import figures  # noqa: E402
import loops  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import runner  # noqa: E402

NEEDS = {"http_aiohttp": ["aiohttp"], "http_uvicorn": ["uvicorn", "httptools"]}
FREE = ("", "")  # on any core


def first_case(name):
    for needed in NEEDS.get(name, ()):
        pytest.importorskip(needed)
    return runner.cases_of(name)[0]


def our(name, where):
    return loops.Loop(name, where, sys.executable)


@pytest.mark.parametrize("name", runner.scenario_names())
def test_scenario_on_every_loop(name):
    case = first_case(name)
    three = [loops.parse(loop) for loop in ("asyncio", "RLoop", "TokioLoop")]
    taking_part = runner.loops_of(runner.load_scenario(name), three, with_limits=True)
    (cells,) = runner.run_case(name, case, taking_part, rounds=1, seconds=0.05)
    for loop in taking_part:
        cell = cells[loop.name]
        assert "failed" not in cell, (loop.name, cell)
        assert cell["operations"] > 0 and cell["seconds"] > 0
        assert figures.ratio([cells], loop.name, "asyncio") > 0


@pytest.mark.parametrize("name", runner.scenario_names())
def test_cases_are_told_apart(name):
    first_case(name)
    cases = runner.cases_of(name)
    assert len({case.name for case in cases}) == len(cases)
    assert runner.load_scenario(name).__doc__
    assert hasattr(runner.load_scenario(name), "run") != hasattr(runner.load_scenario(name), "serve")


@pytest.mark.parametrize(
    ("where", "failed"),
    [
        ("CrashingLoop", "crashed: SIGKILL"),
        ("HangingLoop", "hangs"),
        ("SilentLoop", "hangs: no answer for 5 seconds"),
        ("LackingLoop", "lacks it: servers"),
        ("BrokenLoop", "fails: RuntimeError: no servers today"),
        ("CorruptingLoop", "wrong bytes: an echo differs from its message"),
    ],
)
def test_loop_that_goes_wrong(where, failed, monkeypatch):
    monkeypatch.setattr(runner, "START_SECONDS", 3 if where == "HangingLoop" else 20)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    case = first_case("echo_protocol")
    cell = runner.run_cell(our("wrong", f"bench_loops:{where}"), "echo_protocol", case, 0.05, FREE)
    assert cell == {"failed": failed}


def test_loop_that_is_not_installed():
    case = first_case("call_soon")
    cell = runner.run_cell(our("none", "no_such_module:Loop"), "call_soon", case, 0.05, FREE)
    assert cell == {"failed": "not installed: No module named 'no_such_module'"}


def test_what_fails_is_not_run_again(monkeypatch):
    runs = []

    def run_cell(loop, *_):
        runs.append(loop.name)
        return {"failed": "hangs"} if loop.name == "b" else {"operations": 1, "seconds": 1}

    monkeypatch.setattr(runner, "run_cell", run_cell)
    rounds = runner.run_case("echo_protocol", None, [our("a", ""), our("b", ""), our("c", "")], 3, 1)
    assert runs == ["a", "b", "c", "c", "a", "c", "a"]  # the order rotates
    assert [cells["b"] for cells in rounds] == [{"failed": "hangs"}] * 3


def cell(operations, cpu_seconds, p99_us=100.0):
    return {"operations": operations, "seconds": 2.0, "cpu_seconds": cpu_seconds, "p50_us": 1.0, "p99_us": p99_us}


# Rates of "mine" to the baseline's: 2, 0.5, 1; CPU time of the baseline to mine: 1.5, 3, 6.
ROUNDS = [
    {"uvloop": cell(100, 1.5), "mine": cell(200, 2.0)},
    {"uvloop": cell(100, 1.5), "mine": cell(50, 0.25, p99_us=120.0)},
    {"uvloop": cell(100, 1.5), "mine": cell(100, 0.25, p99_us=120.0)},
]


def test_ratios():
    assert figures.median_ratio(ROUNDS, "mine", "uvloop", figures.rate) == pytest.approx(1)
    assert figures.median_ratio(ROUNDS, "uvloop", "mine", figures.cpu_us) == pytest.approx(3)
    assert figures.ratio(ROUNDS, "mine", "uvloop") == pytest.approx(3)
    assert figures.ratio(ROUNDS, "uvloop", "mine") == pytest.approx(1)
    assert figures.ratio(ROUNDS, "mine", "C epoll") is None


def test_medians_and_spread():
    assert figures.median_of(ROUNDS, "mine", figures.rate) == 50
    assert figures.median_of(ROUNDS, "mine", figures.cpu_us) == pytest.approx(5000)
    # 10000, 5000 and 2500 us: the quartiles are 3750 and 7500
    assert figures.spread(ROUNDS, "mine") == pytest.approx(0.75)
    assert figures.spread(ROUNDS[:2], "mine") is None
    assert figures.median_of(ROUNDS, "other", figures.rate) is None


def test_ratio_of_costs():
    rounds = [
        {"uvloop": cell(1, 1) | {"cost": 1200.0, "unit": "B"}, "mine": cell(9, 1) | {"cost": 800.0, "unit": "B"}},
        {"uvloop": cell(1, 1) | {"cost": 1000.0, "unit": "B"}, "mine": cell(9, 1) | {"cost": 800.0, "unit": "B"}},
    ]
    assert figures.ratio(rounds, "mine", "uvloop") == pytest.approx(1.375)


def test_ratio_without_cpu_time():
    rounds = [{"uvloop": {"operations": 10, "seconds": 1}, "mine": {"operations": 30, "seconds": 2}}]
    assert figures.ratio(rounds, "mine", "uvloop") == pytest.approx(1.5)


def test_failed_rounds_do_not_count():
    rounds = [*ROUNDS, {"uvloop": {"failed": "hangs"}, "mine": cell(1, 1)}, {"mine": {"failed": "hangs"}}]
    assert figures.ratio(rounds, "mine", "uvloop") == pytest.approx(3)
    assert figures.failure(rounds, "mine") == "hangs"
    assert figures.failure(ROUNDS, "mine") is None


def test_verdict():
    assert figures.verdict(ROUNDS, "mine", "uvloop", 3.1) == "no"
    assert figures.verdict(ROUNDS, "mine", "uvloop", 2.9) == "p99"
    assert figures.verdict(ROUNDS[:2], "mine", "uvloop", 2) == "yes"
    assert figures.verdict(ROUNDS, "none", "uvloop", 1) == "no"


def test_reports(tmp_path, capsys):
    rounds = [{**cells, "bad": {"failed": "crashed: SIGSEGV"}} for cells in ROUNDS]
    case = {"scenario": "echo", "case": "64 B", "about": "Echo.", "goal": {"mine": 2.9}, "growth": None, "grows": ""}
    results = {
        "made": "today",
        "machine": report.machine(),
        "settings": {"rounds": 3, "seconds": 2.0},
        "loops": {name: {"version": "1", "python": "3"} for name in ("uvloop", "mine", "bad")},
        "cases": [{**case, "rounds": rounds}],
    }
    report.write(results, tmp_path)
    assert json.loads(tmp_path.joinpath("results.json").read_text()) == results
    lines = tmp_path.joinpath("results.md").read_text().splitlines()
    assert "| echo: 64 B | 1.00 | 3.00 (2.9 p99) | crashed |" in lines
    assert any(line.startswith("| bad | crashed: SIGSEGV |") for line in lines)
    report.print_case(results["cases"][0], ["uvloop", "mine", "bad"])
    report.print_summary(results)
    assert "crashed: SIGSEGV" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["nonsense", "x=python", "x=python:module"])
def test_loop_that_can_not_be_parsed(text):
    with pytest.raises(ValueError):
        loops.parse(text)


def test_loop_of_another_interpreter():
    assert loops.parse("peer=/some/python:its.module:Loop") == loops.Loop("peer", "its.module:Loop", "/some/python")
    assert loops.parse("peer=:its.module:Loop").python == sys.executable


def test_client_refuses_a_server_that_is_not_there():
    done = subprocess.run([programs.find("load"), "echo", "--tcp", "1"], capture_output=True, text=True)
    assert done.returncode == 4 and "connect" in done.stderr


def listing(*command):
    return subprocess.run(
        [sys.executable, *command, "--list", "--all"], check=True, capture_output=True, text=True
    ).stdout


def test_command_line():
    lines = listing(BENCH).splitlines()
    assert "echo_protocol: 1 KiB, 50 connections" in lines
    assert {line.partition(":")[0] for line in lines} <= set(runner.scenario_names())


@pytest.mark.skipif(importlib.util.find_spec("rloop.bench") is None, reason="this rloop was not installed by meson")
def test_installed_module():
    assert listing("-m", "rloop.bench") == listing(BENCH)
