# SPDX-License-Identifier: MIT
"""Let one call after the other fail in programs that run, and see that nothing is lost in silence.

The calls are allocations and system calls.  Runs in a Python with inject.c's library preloaded (tools/faults does it).
A first run of each program records which call sites of rloop it passes, and how often.  Then each of them fails once:
a process of its own per case runs the program with that fault.  What may come of it:

same          the program's result, as if nothing had been;
reported      an error came to the program, to a protocol, to the loop's exception handler or to the log;
stalled       an error was reported, and then the program waited for what does not come any more.  It is the program
              that is stuck: the loop goes on;
libuv fails   it calls abort(), or would go on with memory that it has freed, when its table of files, or epoll's, can't
              grow;
type dies     the process dies in PyType_FromModuleAndSpec: CPython 3.13 goes on with a type's dictionary that could not
              grow as if it had.

And what may not: a process that dies (CRASH), a loop that does not end (HANG), a fault that should not be seen at all,
as an interrupted call, but is (SEEN), a program that waits or ends with less than it should though nobody was told
(SILENT), bytes that are not the ones sent (WRONG), an open file too many (LEAK) or one too few (CLOSED), a loop that is
no use afterwards (BROKEN).
"""

import argparse
import collections
import ctypes
import errno
import itertools
import random
import subprocess
import sys
import tempfile
import time

from case import LOOPS, Fault, in_child, load, run_case

import programs

# Beside the errors: what inject.h names.  Of what stands here nobody is to be told.
UNSEEN = {"EINTR", "EAGAIN", "short", "stale", "early"}
SPECIAL = {"short": -1, "stale": -2, "early": -3}
DONE = -1000

# How each function may fail, by what the manual says of it.  X_after: it fails when it has done its work.
FAULTS = {
    "malloc": "ENOMEM",
    "read": "EINTR EAGAIN short EIO ECONNRESET",
    "recv": "EINTR EAGAIN short ECONNRESET ETIMEDOUT ENOMEM",
    "recvfrom": "EINTR EAGAIN ECONNREFUSED ENOMEM",
    "recvmsg": "EINTR EAGAIN ECONNREFUSED ENOMEM",
    "recvmmsg": "EINTR EAGAIN short ECONNREFUSED ENOMEM",
    "write": "EINTR EAGAIN short EPIPE ENOSPC EIO",
    "writev": "EINTR EAGAIN short EPIPE ENOSPC EIO",
    "send": "EINTR EAGAIN short EPIPE ECONNRESET ENOBUFS",
    "sendto": "EINTR EAGAIN ECONNREFUSED EPERM ENOBUFS ENOMEM",
    "sendmsg": "EINTR EAGAIN short EPIPE ECONNRESET ENOBUFS",
    "accept": "EINTR EAGAIN ECONNABORTED EPROTO EMFILE ENFILE ENOBUFS ENOMEM",
    "accept4": "EINTR EAGAIN ECONNABORTED EPROTO EMFILE ENFILE ENOBUFS ENOMEM",
    "connect": "EINTR_after ECONNREFUSED ENETUNREACH ETIMEDOUT EADDRNOTAVAIL EACCES",
    "shutdown": "ENOTCONN ENOBUFS",
    "close": "EINTR_after EIO_after",
    "getsockopt": "ENOBUFS",
    "setsockopt": "ENOBUFS",
    "getsockname": "ENOBUFS",
    "getpeername": "ENOTCONN ENOBUFS",
    "fcntl": "EMFILE",
    "pipe2": "EMFILE ENFILE",
    "eventfd": "EMFILE ENFILE ENOMEM",
    "epoll_create1": "EMFILE ENFILE ENOMEM",
    "epoll_ctl": "ENOMEM ENOSPC",
    "epoll_wait": "EINTR stale early",
    "epoll_pwait": "EINTR stale early",
}
ALLOWED = ("same", "reported", "stalled", "libuv fails", "type dies")


class Record(ctypes.Structure):
    _fields_ = [
        ("site", ctypes.c_size_t),
        ("path", ctypes.c_uint64),
        ("function", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    ]


class Range(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_size_t), ("end", ctypes.c_size_t)]


def mapped(path):
    """Where a shared object lies in memory."""
    with open("/proc/self/maps") as maps:
        lines = [line for line in maps if line.rstrip().endswith(path)]
    return Range(int(lines[0].split("-")[0], 16), int(lines[-1].split("-")[1].split()[0], 16))


def injector():
    """The preloaded library, the extension's place and its file, and the names of the functions that can fail."""
    from rloop import _rloop

    library = ctypes.PyDLL(None)
    library.inject_begin.argtypes = [ctypes.c_uint64, ctypes.c_long, ctypes.c_int]
    library.inject_watch.argtypes = [ctypes.c_bool]
    library.inject_setup.argtypes = [Range, Range]
    library.inject_records.restype = ctypes.POINTER(Record)
    library.inject_names.restype = ctypes.POINTER(ctypes.c_char_p)
    ours = mapped(_rloop.__file__)
    asyncio = sys.modules["_asyncio"]
    library.inject_setup(ours, mapped(asyncio.__file__) if asyncio else Range(0, 0))
    names = [name.decode() for name in itertools.takewhile(bool, library.inject_names())]
    return library, ours.begin, _rloop.__file__, names


class Injected(Fault):
    """The call on `path` fails with the number `fault` when it comes for the time `hit`; path 0: none does."""

    library = None  # one in a process

    def __init__(self, path=0, hit=0, fault=0):
        self.call = path, hit, fault

    def start(self):
        self.library.inject_begin(*self.call)

    def pause(self):
        self.library.inject_watch(False)
        self.has_happened = bool(self.library.inject_has_failed())

    def resume(self):
        self.library.inject_watch(True)


def record(*program):
    """What happens without a fault, and how often the program passes each (function, site, path)."""
    outcome, _, told, result = run_case(*program, Injected())
    number = ctypes.c_uint()
    records = Injected.library.inject_records(ctypes.byref(number))
    passed = collections.Counter(
        (records[at].function, records[at].site, records[at].path) for at in range(number.value)
    )
    return outcome, passed, told, result


def fault_number(name):
    if name in SPECIAL:
        return SPECIAL[name]
    name, _, after = name.partition("_")
    return DONE - getattr(errno, name) if after else getattr(errno, name)


def judge(fault, outcome, told, result, wanted):
    """The outcome, where the case itself has not told of one."""
    if fault in UNSEEN and outcome in (None, "stalled") and (told or result != wanted):
        return "SEEN"
    return outcome or ("reported" if told else "same" if result == wanted else "SILENT")


def places(extension, begin, sites):
    """Call site -> function (file:line), with what is inlined there."""
    where = {}
    for site in sites:
        command = ["addr2line", "-f", "-s", "-i", "-e", extension, hex(site - 1 - begin)]
        text = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")
        pairs = zip(text[::2], text[1::2], strict=False)
        where[site] = " in ".join(f"{function} ({line.split(' ')[0]})" for function, line in pairs)
    return where


def run_program(options, names, where, loop, name, folder):
    """Yield (outcome, function, site, fault, hit, told, result) for every case; where(site) is what places() tells."""
    program = name, LOOPS[loop], folder
    outcome, passed, told, wanted = in_child(record, *program)
    if outcome or told:
        raise SystemExit(f"{loop} {name} fails without a fault: {outcome} {told}")
    cases = [
        (names[function], site, path, fault, hit)
        for (function, site, path), hits in passed.items()
        if (names[function] == "malloc") in options.kinds
        for fault in FAULTS[names[function]].split()
        for hit in range(min(hits, options.hits))
    ]
    if options.sample:
        cases = random.Random(f"{options.seed} {loop} {name}").sample(cases, min(options.sample, len(cases)))
    for function, site, path, fault, hit in cases:
        outcome, injected, told, result = in_child(run_case, *program, Injected(path, hit, fault_number(fault)))
        outcome = judge(fault, outcome, told, result, wanted) if injected.has_happened else "not met"
        if outcome == "CRASH" and function == "malloc" and "module_add_type" in where(site):
            outcome = "type dies"
        yield outcome, function, site, fault, hit, told, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["memory", "calls", "all"], help="what is to fail: allocations, system calls")
    parser.add_argument("--loop", action="append", choices=["rloop", "tokio"], help="both, if none is named")
    parser.add_argument("--program", action="append", choices=programs.PROGRAMS, help="all, if none is named")
    parser.add_argument("--hits", type=int, default=2, help="how many of the hits of one path fail, in a program (2)")
    parser.add_argument("--sample", type=int, help="only so many cases of each program, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--table", action="store_true", help="print every pair of call site and fault, and what came of it"
    )
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    options.kinds = {"memory": [True], "calls": [False], "all": [True, False]}[options.kind]
    Injected.library, begin, extension, names = injector()
    for spec in LOOPS.values():
        load(spec)().close()  # the first one of a process opens what the process keeps

    def where(site):
        return places(extension, begin, [site])[site]

    totals = collections.Counter()
    by_pair = collections.defaultdict(collections.Counter)
    shown = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if "tls" in programs.PROGRAMS:
            programs.contexts(folder)
        for loop in options.loop or ["rloop", "tokio"]:
            for name in options.program or programs.PROGRAMS:
                counts = collections.Counter()
                cases = run_program(options, names, where, loop, name, folder)
                for outcome, function, site, *case in cases:
                    counts[outcome] += 1
                    if outcome != "not met":
                        by_pair[function, site, case[0]][outcome] += 1
                    if options.verbose or outcome not in (*ALLOWED, "not met"):
                        shown.append((outcome, loop, name, function, site, *case))
                totals.update(counts)
                print(f"{loop} {name}: {sum(counts.values())} faults, {dict(counts)}", flush=True)
    sites = places(extension, begin, {site for _, site, _ in by_pair})
    for outcome, loop, name, function, site, fault, hit, told, result in shown:
        print(f"{outcome}: {loop} {name}: {function} {fault}, hit {hit}, in {sites[site]}: {told} {str(result)[:80]}")
    if options.table:
        for (function, site, fault), counts in sorted(by_pair.items(), key=lambda item: (sites[item[0][1]], item[0])):
            print(f"{function} {fault} in {sites[site]}: {dict(counts)}")
    print(
        f"{totals.total()} faults, {len(sites)} call sites, {len(by_pair)} pairs of a site and a fault,"
        f" {time.monotonic() - started:.0f} s: {dict(totals)}"
    )
    return 1 if set(totals) - {*ALLOWED, "not met"} else 0


if __name__ == "__main__":
    sys.exit(main())
