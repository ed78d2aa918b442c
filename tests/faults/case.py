# SPDX-License-Identifier: MIT
"""One program on one loop with one fault, in a process of its own, and what a user would see of it."""

import sys

if "_asyncio" in sys.builtin_module_names:
    # In the interpreter (3.15): nobody could tell what the step of a task calls from what rloop calls.  Do without.
    sys.modules["_asyncio"] = None

import asyncio
import ctypes
import faulthandler
import gc
import logging
import os
import pickle
import signal
import socket
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import programs
from support import LOOPS, load, open_fds

__all__ = ["LOOPS", "Fault", "in_child", "load", "run_case"]

EXIT_LIBUV_FAILED = 66
PATIENCE = 3.0  # seconds; without a fault the slowest program takes a tenth of it


class Stuck(BaseException):
    """The program has not ended in its time."""


class Fault:
    """None at all.  What the case does for itself, it does between pause() and resume()."""

    has_happened = True

    def start(self):
        pass

    def pause(self):
        pass

    def resume(self):
        pass


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


def watch_errors():
    """From now on, note all that is told in this process; an alarm breaks into a program that waits for too long."""
    told = Told()
    handler = logging.Handler()
    handler.emit = told.emit
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = told.unraisable
    warnings.simplefilter("ignore")

    def stuck(signum, frame):
        raise Stuck

    signal.signal(signal.SIGALRM, stuck)
    return told


def finish(loop, fault, told):
    """End the loop and close it, again if that was what failed; or tell that it is of no use any more."""
    for attempts_left in (2, 1, 0):
        try:
            end(loop)
            break
        except Exception as error:
            told.append(f"raised at the end: {error!r}")
            if not attempts_left:
                raise
    fault.pause()
    outcome = None if use(loop) else "BROKEN"
    fault.resume()
    try:
        loop.close()
    except Exception as error:
        told.append(f"raised by close: {error!r}")
        loop.close()
    return outcome


def run_case(name, spec, folder, fault):
    """(outcome, the fault, what was told, the program's result), in a process that does nothing else."""
    told = watch_errors()
    fds = open_fds()
    outcome = result = loop = None
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    fault.start()
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
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        if loop is not None:
            outcome = finish(loop, fault, told) or outcome
    except Stuck:
        outcome = "HANG"
    except BaseException as error:
        outcome = "BROKEN"
        told.append(repr(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
    fault.pause()
    loop = None
    gc.collect()
    now = open_fds()
    left = {fd for fd, what in now.items() if fds.get(fd) != what}
    if fds.keys() - now.keys():
        outcome = "CLOSED"
        told.append(f"closed: {fds.keys() - now.keys()}")
    elif left and outcome is None:
        outcome = "LEAK"
        told.append(f"left open: {[os.readlink(f'/proc/self/fd/{fd}') for fd in left]}")
    return outcome, fault, list(told), result


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
            ctypes.CDLL(None).exit(0)  # without Python's own end, but with that of gcov
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
    outcome = {EXIT_LIBUV_FAILED: "libuv fails", 1: "HANG"}.get(status, "CRASH")
    return outcome, Fault(), [f"exit status {status}"], None
