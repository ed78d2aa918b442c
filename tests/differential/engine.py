# SPDX-License-Identifier: MIT
"""Programs for event loops, and what can be seen of them while they run.

A program is a list of operations, (name, argument...), of one Scene: a kind of thing that loops do.  `history(...)`
runs it on a loop of its own and returns all that a user could observe, in order: what callbacks and protocols were
told, what calls returned or raised, what was logged, warned of, or given to the exception handler.  Two loops agree
when their histories are equal.

The order is made to be defined: after each operation the loop goes round until all that it has caused is over, the
other ends are plain sockets that the scene itself drives, and time stands still unless the program moves it.  What
asyncio leaves open is taken out of the histories here, and nowhere else: `plain` says what.
"""

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import re
import warnings
import zlib

from hypothesis import strategies as st

TURNS = 12  # more than anything takes that one operation begins


class Abandoned(BaseException):
    """Neither an Exception nor one that leaves run_forever."""


def operation(*arguments):
    """Mark a method of a Scene as an operation, with a strategy for each argument."""

    def mark(method):
        method.arguments = arguments
        return method

    return mark


def operations_of(kind):
    return {name: method for name, method in inspect.getmembers(kind) if hasattr(method, "arguments")}


def programs(kind, max_size=12):
    """A strategy for programs of this kind of scene."""
    each = [st.tuples(st.just(name), *method.arguments) for name, method in operations_of(kind).items()]
    return st.tuples(st.booleans(), st.lists(st.one_of(each), min_size=1, max_size=max_size))


# What differs by chance, or by design without meaning: addresses in memory, descriptors, ports, the loop's class and
# the classes of its transports in what repr() makes of them.
PLAIN = [
    (re.compile(r"(Exception in callback [\w.]+)\(.*"), r"\1"),
    (re.compile(r"0x[0-9a-f]+"), "0x"),
    (re.compile(r"(fd=|descriptor |FD )-?\d+"), r"\1N"),
    (re.compile(r"(127\.0\.0\.1', )\d+"), r"\1PORT"),
    (
        re.compile(r"<_?(asyncio\.\w+\.)?(rloop\.\w+\.)?\w*(Loop|Transport)\b[^>]*(<[^>]*>[^>]*)*>"),
        "<an object of the loop>",
    ),
    (re.compile(r"\b_?\w*(RLoop|TokioLoop|SelectorEventLoop)\b"), "Loop"),
    (re.compile(r"_Selector\w*Transport|StreamTransport|DatagramTransport"), "Transport"),
    (re.compile(r"created at .*?:\d+"), "created at"),
    (re.compile(r"'Task-\d+'|Task-\d+"), "Task-N"),
]


# How Python and C word it that a call has too few or too many arguments.
ARITY = re.compile(r"(takes|missing|expected|unexpected keyword|multiple values|given|argument).*argument|no arguments")


def plain(text):
    for pattern, replacement in PLAIN:
        text = pattern.sub(replacement, text)
    return text


def describe(value):
    """A value for the history: equal for equal meanings, whatever loop it comes from."""
    if isinstance(value, BaseException):
        if isinstance(value, BaseExceptionGroup):
            return type(value).__name__, [describe(each) for each in value.exceptions]
        if type(value) is TypeError and ARITY.search(str(value)):
            return "TypeError", "wrong arguments"
        return type(value).__name__, plain(str(value))
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (tuple, list)):
        return [describe(each) for each in value]
    return f"a {plain(type(value).__name__)}"


class Scene:
    """What a program acts on.  Subclasses have operations (methods, plain or async), `start` and `finish`."""

    turns = TURNS
    own_clock = False  # time stands still unless the program moves it

    def __init__(self, loop):
        self.loop = loop
        self.history = []

    def note(self, *what):
        self.history.append(tuple(describe(each) for each in what))

    def note_data(self, who, data):
        """As note, but what came in one piece or in several is the same: the kernel may split it."""
        if self.history and self.history[-1][:2] == (who, "data"):
            data = self.history.pop()[2] + bytes(data)
        self.history.append((who, "data", bytes(data)))

    def attempt(self, what, function, *args, **kwargs):
        """Call, and note what is returned or raised; None after an exception."""
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            self.note(what, "raised", error)
            return None
        self.note(what, "returned", result)
        return result

    async def attempt_async(self, what, awaitable, limit=5):
        try:
            async with asyncio.timeout(limit):
                result = await awaitable
        except Exception as error:
            self.note(what, "raised", error)
            return None
        self.note(what, "returned", result)
        return result

    async def start(self):
        pass

    async def finish(self):
        pass

    async def settle(self):
        for _ in range(self.turns):
            await asyncio.sleep(0)

    async def play(self, program):
        await self.start()
        for name, *arguments in program:
            self.history.append((f"-- {name}", *map(repr, arguments)))
            try:
                result = getattr(self, name)(*arguments)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                self.note("operation raised", error)
            await self.settle()
        self.history.append(("-- finish",))
        await self.finish()

    def on_error(self, loop, context):
        """The exception handler.  Of a transport's own calls, the context names the transport instead of a handle."""
        names = sorted(context)
        if context["message"].startswith("Exception in callback"):
            names = [name for name in names if name not in ("handle", "transport", "protocol", "source_traceback")]
        self.note("exception handler", plain(context["message"]), context.get("exception"), names)


class LogToHistory(logging.Handler):
    def __init__(self, scene):
        super().__init__(logging.WARNING)
        self.scene = scene

    def emit(self, record):
        error = record.exc_info[1] if record.exc_info else None
        first = plain(record.getMessage()).splitlines()[0]
        self.scene.note("logged", record.levelname, first, error)


@contextlib.contextmanager
def observed(scene):
    """Log records and warnings go into the scene's history."""
    logger = logging.getLogger("asyncio")
    handler = LogToHistory(scene)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, category, *_: scene.note(
                "warned", category.__name__, plain(str(message))
            )
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


@functools.cache
def still(factory):
    """The same loop with a clock that only the program moves."""

    class Still(factory):
        now = 1000.0

        def time(self):
            return self.now

    Still.__name__ = factory.__name__
    return Still


def history(kind, factory, program, *, own_clock=False):
    """Run (debug, operations) on a new loop; `own_clock`: a clock that the program moves."""
    debug, operations = program
    loop = (still(factory) if own_clock else factory)()
    loop.set_debug(debug)
    loop.slow_callback_duration = 1000
    scene = kind(loop)
    with observed(scene):
        loop.set_exception_handler(scene.on_error)
        task = loop.create_task(scene.play(operations))
        run_to_end(loop, scene, task)
        for other in asyncio.all_tasks(loop):
            other.cancel()
            scene.note("a task was left")
        loop.run_until_complete(scene.settle())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        scene.loop = None
        gc.collect(0)
    return shorten(scene.history)


def shorten(value):
    """Long data as its length and a checksum."""
    if isinstance(value, bytes) and len(value) > 40:
        return f"{len(value)} bytes, {zlib.crc32(value):08x}"
    if isinstance(value, dict):
        return {key: shorten(each) for key, each in value.items()}
    return type(value)(map(shorten, value)) if isinstance(value, (tuple, list)) else value


def run_to_end(loop, scene, task):
    """Run the loop until the task is done, again and again if it is left before."""
    for _ in range(200):
        try:
            loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit, RuntimeError) as error:
            scene.note("run_until_complete", "raised", error)
            if task.done():
                task.exception()
                return
        else:
            return
    raise AssertionError("the program does not end")
