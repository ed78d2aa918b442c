# SPDX-License-Identifier: MIT
#
# Each target is a script in tools/.  PYTHON=/path/to/python3 chooses the interpreter; otherwise tools/find_python does.

.PHONY: help demo build test test-py test-native test-asan test-tsan test-debug test-faults test-interrupts test-load soak \
	test-machines test-differential test-defects test-new-libuv coverage fuzz conformance kqueue-check format lint \
	bench bench-all bench-quick bench-threads clean distclean
.SILENT:

help:
	echo "make demo            programs on asyncio, RLoop and TokioLoop, and a table"
	echo "make build           build rloop into .venv/X.Y, for the newest Python found"
	echo "make test            all tests: conformance, C tests, pytest on the oldest and the newest Python"
	echo "make test-py VERSION=3.14  the same on one Python, which is set up if need be; 3.13t is free-threaded"
	echo "make test-native     the C tests of the cores"
	echo "make test-asan       C tests and pytest under AddressSanitizer and UBSan"
	echo "make test-tsan       C tests, and pytest of what has threads, under ThreadSanitizer"
	echo "make test-debug      pytest for reference leaks, in a Python built --with-pydebug"
	echo "make coverage        lines and branches of csrc/ that the tests pass through"
	echo "make fuzz            SECONDS=60: the contract's operations and TLS input, so long each"
	echo "make test-faults     programs in which each allocation, then each system call of rloop fails once"
	echo "make test-interrupts KeyboardInterrupt and cancellation at every point of programs, and signals at random ones"
	echo "make test-load       two million connections, ten thousand at once, resets, slow readers: a table; 10 minutes a loop"
	echo "make soak            MINUTES=10: mixed traffic on both loops, and a chart of what they hold, which must not grow"
	echo "make test-machines   Hypothesis machines for timers, the write buffer, reading and the contract, at length"
	echo "make test-new-libuv  C tests with the libuv of a newer Debian"
	echo "make test-differential  21,000 random programs on asyncio's loop and on ours, and a table of what they did"
	echo "make test-defects    defects planted in a copy of the sources, each to be found by such programs"
	echo "make conformance     CPython's own asyncio tests on both loops"
	echo "make kqueue-check    compile RLoop's core for macOS and FreeBSD"
	echo "make format          lay out the C and the Python files"
	echo "make lint            ruff, clang-format, clang-tidy, stubtest, -Werror"
	echo "make bench           asyncio, uvloop, RLoop, TokioLoop and two C servers in every scenario; ten minutes"
	echo "make bench-all       and the other loops that have wheels, more cases, growth curves; an hour or more"
	echo "make bench-quick     a choice of the scenarios; two minutes"
	echo "make bench-threads   N loops in N threads on one port, in a free-threaded Python"
	echo "make clean           remove what was built"
	echo "make distclean       and the virtual environments"
	echo "PYTHON=/path/to/python3 make ... uses that interpreter alone"

demo:
	tools/with_rloop test -- -m demo

build:
	tools/with_rloop -- -c "import rloop; print('rloop', rloop.__version__)"

test:
	tools/test

test-py:
	tools/with_python '$(VERSION)' tools/test

test-native:
	tools/native

test-asan:
	tools/asan

test-tsan:
	tools/tsan

test-debug:
	tools/debug

coverage:
	tools/coverage

fuzz:
	tools/fuzz $(SECONDS)

test-faults:
	tools/faults all --table

test-interrupts:
	tools/with_rloop test -- tests/interrupts/interrupt_check.py all

test-load:
	tools/load

soak:
	tools/soak --minutes $(or $(MINUTES),10)

test-machines:
	tools/machines

test-new-libuv:
	tools/test_new_libuv

test-differential:
	tools/differential --programs 3000

test-defects:
	tools/defects

conformance:
	tools/conformance

kqueue-check:
	tools/kqueue_check

format:
	tools/format

lint:
	tools/lint

bench:
	tools/bench --results bench/results

bench-all:
	tools/bench_all --results bench/results/all

bench-quick:
	tools/bench --quick --results bench/results/quick

bench-threads:
	tools/with_python 3.13t tools/with_rloop -- bench/reuseport.py

clean:
	rm -rf build .pytest_cache .hypothesis .ruff_cache .mypy_cache .venv/*/has-rloop

distclean: clean
	rm -rf .venv
