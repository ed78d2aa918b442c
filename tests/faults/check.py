# SPDX-License-Identifier: MIT
"""Let one call after the other fail in programs that run, and see that nothing is lost in silence.

The calls are allocations and system calls.  Runs in a Python with inject.c's library preloaded (tools/faults does it).
A first run of each program records which call sites of rloop it passes, and how often.  Then each of them fails once:
a process of its own per case runs the program with that fault.  What may come of it:

same          the program's result, as if nothing had been;
reported      an error came to the program, to a protocol, to the loop's exception handler or to the log;
stalled       an error was reported, and then the program waited for what does not come any more.  It is the program
              that is stuck: the loop goes on;
libuv aborts  libuv calls abort(); it has no other answer when its table of files, or epoll's, can't grow.

And what may not: a process that dies (CRASH), a loop that does not end (HANG), a fault that should not be seen at all,
as an interrupted call, but is (SEEN), a program that waits or ends with less than it should though nobody was told
(SILENT), bytes that are not the ones sent (WRONG), an open file too many (LEAK), a loop that is no use afterwards
(BROKEN).
"""

import argparse
import asyncio
import collections
import ctypes
import errno
import faulthandler
import gc
import itertools
import logging
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import programs
from support import LOOPS, load, open_fds

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
ALLOWED = ("same", "reported", "stalled", "libuv aborts")
EXIT_LIBUV_ABORTED = 66
PATIENCE = 3.0  # seconds; without a fault the slowest program takes a tenth of it


class Record(ctypes.Structure):
    _fields_ = [
        ("site", ctypes.c_size_t),
        ("path", ctypes.c_uint64),
        ("function", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    ]


class Range(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_size_t), ("end", ctypes.c_size_t)]


class Stuck(BaseException):
    """The program has not ended in its time."""


def mapped(path):
    """Where a shared object lies in memory."""
    with open("/proc/self/maps") as maps:
        lines = [line for line in maps if line.rstrip().endswith(path)]
    return Range(int(lines[0].split("-")[0], 16), int(lines[-1].split("-")[1].split()[0], 16))


def injector():
    """The preloaded library, the extension's place and its file, and the names of the functions that can fail."""
    import _asyncio

    from rloop import _rloop

    library = ctypes.CDLL(None)
    library.inject_begin.argtypes = [ctypes.c_uint64, ctypes.c_long, ctypes.c_int]
    library.inject_watch.argtypes = [ctypes.c_bool]
    library.inject_setup.argtypes = [Range, Range]
    library.inject_records.restype = ctypes.POINTER(Record)
    library.inject_names.restype = ctypes.POINTER(ctypes.c_char_p)
    ours = mapped(_rloop.__file__)
    if library.inject_setup(ours, mapped(_asyncio.__file__)) < 0:
        raise SystemExit("this Python does not tell where its interpreter's loop is")
    names = [name.decode() for name in itertools.takewhile(bool, library.inject_names())]
    return library, ours.begin, _rloop.__file__, names


class Told(list):
    """What somebody was told: by the loop's handler, the log, or a destructor's hook."""

    def handler(self, loop, context):
        self.append(f"handler: {context['message']}: {context.get('exception')!r}")

    def unraisable(self, args):
        self.append(f"unraisable: {args.exc_value!r} in {args.object!r}")

    def emit(self, record):
        self.append(f"log: {record.getMessage()}")


def use(loop):
    """The loop does its work still."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)

        async def round_trip():
            await loop.sock_sendall(here, b"ping")
            await asyncio.sleep(0.001)
            return await loop.sock_recv(there, 100)

        return loop.run_until_complete(round_trip()) == b"ping"


def end(loop):
    """What asyncio.Runner does at the end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


def run_case(library, name, spec, folder, path, hit, fault):
    """(outcome, has the fault happened?, what was told, the program's result), in a process that does nothing else."""
    told = Told()
    fds = open_fds()
    outcome = result = loop = None
    handler = logging.Handler()
    handler.emit = told.emit
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = told.unraisable
    warnings.simplefilter("ignore")

    def stuck(signum, frame):
        raise Stuck

    signal.signal(signal.SIGALRM, stuck)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    library.inject_begin(path, hit, fault)
    try:
        loop = load(spec)()
        loop.set_exception_handler(told.handler)
        result = loop.run_until_complete(programs.PROGRAMS[name](loop, folder))
    except Stuck:
        outcome = "stalled" if told else "SILENT"
    except programs.Wrong as error:
        outcome = "WRONG"
        told.append(repr(error))
    except BaseException as error:
        told.append(f"raised: {error!r}")
    try:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        if loop is not None:
            try:
                end(loop)
            except Exception as error:
                told.append(f"raised at the end: {error!r}")
                end(loop)
            library.inject_watch(False)
            if not use(loop):
                outcome = "BROKEN"
            library.inject_watch(True)
            try:
                loop.close()
            except Exception as error:
                told.append(f"raised by close: {error!r}")
                loop.close()
    except Stuck:
        outcome = "HANG"
    except BaseException as error:
        outcome = "BROKEN"
        told.append(repr(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
    library.inject_watch(False)
    loop = None
    gc.collect()
    left = {fd for fd, what in open_fds().items() if fds.get(fd) != what}
    if left and outcome is None:
        outcome = "LEAK"
        told.append(f"left open: {[os.readlink(f'/proc/self/fd/{fd}') for fd in left]}")
    return outcome, bool(library.inject_has_failed()), list(told), result


def in_child(function, *arguments):
    """What the function returns in a child process, or how the process ended."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            faulthandler.dump_traceback_later(3 * PATIENCE + 2, exit=True, file=open(os.devnull, "w"))
            answer = pickle.dumps(function(*arguments))
            with open(write_end, "wb") as pipe:
                pipe.write(answer)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return pickle.loads(answer)
    outcome = {EXIT_LIBUV_ABORTED: "libuv aborts", 1: "HANG"}.get(status, "CRASH")
    return outcome, True, [f"exit status {status}"], None


def record(library, *program):
    """What happens without a fault, and how often the program passes each (function, site, path)."""
    outcome, _, told, result = run_case(library, *program, 0, 0, 0)
    number = ctypes.c_uint()
    records = library.inject_records(ctypes.byref(number))
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


def run_program(library, options, names, loop, name, folder):
    """Yield (outcome, function, site, fault, hit, told, result) for every case."""
    program = name, LOOPS[loop], folder
    outcome, passed, told, wanted = in_child(record, library, *program)
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
        outcome, has_failed, told, result = in_child(run_case, library, *program, path, hit, fault_number(fault))
        outcome = judge(fault, outcome, told, result, wanted) if has_failed else "not met"
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
    library, begin, extension, names = injector()
    for spec in LOOPS.values():
        load(spec)().close()  # the first one of a process opens what the process keeps
    totals = collections.Counter()
    by_pair = collections.defaultdict(collections.Counter)
    shown = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        programs.contexts(folder)
        for loop in options.loop or ["rloop", "tokio"]:
            for name in options.program or programs.PROGRAMS:
                counts = collections.Counter()
                for outcome, function, site, *case in run_program(library, options, names, loop, name, folder):
                    counts[outcome] += 1
                    if outcome != "not met":
                        by_pair[function, site, case[0]][outcome] += 1
                    if options.verbose or outcome not in (*ALLOWED, "not met"):
                        shown.append((outcome, loop, name, function, site, *case))
                totals.update(counts)
                print(f"{loop} {name}: {sum(counts.values())} faults, {dict(counts)}", flush=True)
    where = places(extension, begin, {site for _, site, _ in by_pair})
    for outcome, loop, name, function, site, fault, hit, told, result in shown:
        print(f"{outcome}: {loop} {name}: {function} {fault}, hit {hit}, in {where[site]}: {told} {str(result)[:80]}")
    if options.table:
        for (function, site, fault), counts in sorted(by_pair.items(), key=lambda item: (where[item[0][1]], item[0])):
            print(f"{function} {fault} in {where[site]}: {dict(counts)}")
    print(
        f"{totals.total()} faults, {len(where)} call sites, {len(by_pair)} pairs of a site and a fault,"
        f" {time.monotonic() - started:.0f} s: {dict(totals)}"
    )
    return 1 if set(totals) - {*ALLOWED, "not met"} else 0


if __name__ == "__main__":
    sys.exit(main())
