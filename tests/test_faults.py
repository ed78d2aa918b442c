# SPDX-License-Identifier: MIT
"""A sample of what `make test-faults` does; tests/faults/check.py says how and why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).with_name("faults")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "inject.so"
    sources = [FAULTS / "inject.c", FAULTS / "inject_calls.c"]
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-o", path, *sources], check=True
    )
    return path


@pytest.mark.ours("a call site is one of the extension's")
@pytest.mark.skipif(sys.platform != "linux", reason="the preloaded library is for Linux")
@pytest.mark.parametrize("kind", ["memory", "calls"])
def test_failing_calls(loop_name, library, kind):
    preloaded = f"{library} {os.environ.get('LD_PRELOAD', '')}"  # before a sanitizer, which would answer for malloc()
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"
    environment = dict(os.environ, LD_PRELOAD=preloaded, ASAN_OPTIONS=options, PYTHONHASHSEED="0")
    if sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True:
        environment["PYTHONMALLOC"] = "malloc"
    command = [sys.executable, str(FAULTS / "check.py"), kind, "--loop", loop_name, "--sample", "2"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
