# SPDX-License-Identifier: MIT
"""Callbacks, timers, handles, futures and tasks; contexts, cancellations and exceptions; stopping and running on."""

import asyncio
import contextvars
import threading

from engine import Abandoned, Scene, operation, plain
from hypothesis import strategies as st

INDEX = st.integers(0, 5)
DELAY = st.sampled_from([0, 0.0, -1, 1, 2, 2.5, 3, 10, True])
DEED = st.sampled_from(
    [
        *["note"] * 4,
        "raise",
        "abandon",
        "interrupt",
        "exit",
        "call_soon",
        "call_later",
        "cancel",
        "cancel myself",
        "set variable",
        "stop",
        "set result",
        "wake",
        "many arguments",
    ]
)
WRONG = st.sampled_from(
    [
        ("call_soon",),
        ("call_soon", None),
        ("call_soon", 5),
        ("call_later", 1),
        ("call_later", None, print),
        ("call_later", "1", print),
        ("call_later",),
        ("call_at", None, print),
        ("call_at", 5),
        ("call_soon_threadsafe",),
        ("close",),
        ("create_task", 5),
        ("create_task", print),
        ("create_task",),
        ("set_task_factory", 5),
        ("set_exception_handler", 5),
        ("call_exception_handler",),
        ("set_default_executor", 5),
        ("run_until_complete", 5),
        ("add_signal_handler", 1, None),
        ("add_signal_handler", 0, print),
        ("add_signal_handler", 9, print),
        ("remove_signal_handler", 10),
        ("remove_signal_handler", "x"),
        ("create_future", 1),
        ("time", 1),
        ("is_running", 1),
        ("get_debug", 1),
        ("stop", 1),
        ("_timer_handle_cancelled",),
    ]
)

variable = contextvars.ContextVar("variable", default="unset")


class Callbacks(Scene):
    own_clock = True

    def __init__(self, loop):
        super().__init__(loop)
        self.handles, self.futures, self.tasks = [], [], []
        self.serial = self.moments = 0

    def next(self):
        self.serial += 1
        return self.serial

    # --- what callbacks do

    def deed(self, number, deed, *more):
        """The callback of everything here."""
        self.note("ran", number, deed, variable.get(), len(more))
        if deed == "raise":
            raise ValueError(number)
        if deed == "abandon":
            raise Abandoned(number)
        if deed == "interrupt":
            raise KeyboardInterrupt(number)
        if deed == "exit":
            raise SystemExit(number)
        if deed == "call_soon":
            self.handles.append(self.loop.call_soon(self.deed, self.next(), "note"))
        elif deed == "call_later":
            self.handles.append(self.loop.call_later(self.delay(1), self.deed, self.next(), "note"))
        elif deed == "cancel":
            for handle in self.handles[number % 3 :: 3]:
                handle.cancel()
        elif deed == "cancel myself":
            for handle in self.handles:
                handle.cancel()
        elif deed == "set variable":
            variable.set(number)
        elif deed == "stop":
            self.loop.stop()
        elif deed == "set result":
            for future in self.futures:
                if not future.done():
                    future.set_result(number)

    def add(self, handle):
        if handle is not None:
            self.handles.append(handle)

    def delay(self, delay):
        """No two timers are due at the same moment: asyncio leaves open which of them is first."""
        self.moments += 1
        return delay + self.moments * 1e-6

    def extra(self, deed):
        return (deed,) + ((1, 2, 3, 4) if deed == "many arguments" else ())

    @operation(DEED)
    def call_soon(self, deed):
        self.add(self.loop.call_soon(self.deed, self.next(), *self.extra(deed)))

    @operation(st.lists(DEED, min_size=2, max_size=5))
    def call_soon_several(self, deeds):
        for deed in deeds:
            self.call_soon(deed)

    @operation(DEED)
    def call_soon_in_context(self, deed):
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        self.add(self.loop.call_soon(self.deed, self.next(), deed, context=context))
        self.context = context

    @operation(DELAY, DEED)
    def call_later(self, delay, deed):
        self.add(
            self.attempt(
                "call_later", self.loop.call_later, self.delay(delay), self.deed, self.next(), *self.extra(deed)
            )
        )

    @operation(DELAY, DEED)
    def call_at(self, delay, deed):
        self.add(
            self.attempt(
                "call_at", self.loop.call_at, self.loop.time() + self.delay(delay), self.deed, self.next(), deed
            )
        )

    @operation(st.sampled_from([float("inf"), 1e300, 10**30, 1e9]))
    def call_far(self, delay):
        self.add(self.attempt("call_far", self.loop.call_later, self.delay(delay), self.deed, self.next(), "note"))

    @operation(DEED, st.booleans())
    def call_soon_threadsafe(self, deed, elsewhere):
        number = self.next()
        if elsewhere:
            thread = threading.Thread(target=self.loop.call_soon_threadsafe, args=(self.deed, number, deed))
            thread.start()
            thread.join()
        else:
            self.add(self.loop.call_soon_threadsafe(self.deed, number, deed))

    @operation(st.sampled_from([0.5, 1, 2, 5, 20]))
    def advance(self, seconds):
        self.loop.now += seconds

    # --- handles

    @operation(INDEX)
    def cancel_handle(self, index):
        if self.handles:
            self.attempt("cancel", self.handles[index % len(self.handles)].cancel)

    @operation(INDEX)
    def look_at_handle(self, index):
        if self.handles:
            handle = self.handles[index % len(self.handles)]
            self.note(
                "handle", handle.cancelled(), isinstance(handle, asyncio.Handle), type(handle.get_context()).__name__
            )
            if isinstance(handle, asyncio.TimerHandle):
                self.note(
                    "when",
                    handle.when() - self.loop.time(),
                    handle == handle,
                    handle <= handle,
                    hash(handle) == hash(handle.when()),
                )
            # what of a timer's state shows in repr() depends on when asyncio clears it away
            if not isinstance(handle, asyncio.TimerHandle):
                self.note(plain(repr(handle)).partition(" at ")[0])

    @operation(INDEX, INDEX)
    def compare_handles(self, left, right):
        timers = [handle for handle in self.handles if isinstance(handle, asyncio.TimerHandle)]
        if timers:
            left, right = timers[left % len(timers)], timers[right % len(timers)]
            self.note("compared", left < right, left == right, left >= right)

    # --- futures and tasks

    @operation()
    def create_future(self):
        self.futures.append(self.loop.create_future())
        self.note("future", self.futures[-1].get_loop() is self.loop)

    @operation(INDEX, st.sampled_from(["set_result", "set_exception", "cancel", "callback", "result", "exception"]))
    def use_future(self, index, what):
        if not self.futures:
            return
        number, future = self.next(), self.futures[index % len(self.futures)]
        if what == "callback":
            future.add_done_callback(lambda done: self.note("done", number, done.cancelled()))
        else:
            arguments = {"set_result": (number,), "set_exception": (LookupError(number),)}.get(what, ())
            try:
                self.note(what, getattr(future, what)(*arguments))
            except (Exception, asyncio.CancelledError) as error:
                self.note(what, "raised", error)

    async def body(self, number, deed):
        self.note("task", number, variable.get(), asyncio.current_task() is not None)
        try:
            if deed == "sleep":
                await asyncio.sleep(self.delay(2))
            elif deed == "give way":
                for _ in range(3):
                    await asyncio.sleep(0)
                    self.note("task goes on", number)
            elif deed == "wait":
                if self.futures:
                    self.note("task", number, await self.futures[number % len(self.futures)])
            elif deed == "swallow":
                try:
                    await asyncio.sleep(self.delay(5))
                except asyncio.CancelledError as error:
                    self.note("task swallowed", number, error)
                    await asyncio.sleep(self.delay(1))
            elif deed == "timeout":
                async with asyncio.timeout(self.delay(1)):
                    await asyncio.sleep(self.delay(3))
            elif deed == "wait_for":
                await asyncio.wait_for(self.loop.create_future(), self.delay(1))
            elif deed == "gather":
                self.note(
                    await asyncio.gather(
                        self.body(self.next(), "give way"),
                        asyncio.sleep(self.delay(1), "slept"),
                        return_exceptions=True,
                    )
                )
            elif deed == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.body(self.next(), "give way"))
                    group.create_task(self.body(self.next(), "raise"))
            elif deed == "executor":
                self.note("from a thread", await self.loop.run_in_executor(None, int, number))
            else:
                self.deed(number, deed)
        finally:
            self.note("task ends", number)

    TASK_DEED = st.sampled_from(
        [
            "sleep",
            "give way",
            "wait",
            "swallow",
            "timeout",
            "wait_for",
            "gather",
            "group",
            "raise",
            "interrupt",
            "note",
            "set variable",
        ]
    )

    @operation(TASK_DEED, st.sampled_from([None, "name", "context"]))
    def create_task(self, deed, more):
        kwargs = {"name": {"name": "a name"}, "context": {"context": contextvars.copy_context()}}.get(more, {})
        task = self.loop.create_task(self.body(self.next(), deed), **kwargs)
        self.note("task made", task.get_name() if more == "name" else None)
        self.tasks.append(task)

    @operation(INDEX, st.sampled_from([(), ("why",)]))
    def cancel_task(self, index, message):
        if self.tasks:
            self.note("cancel", self.tasks[index % len(self.tasks)].cancel(*message))

    @operation(INDEX)
    async def await_task(self, index):
        task = self.tasks[index % len(self.tasks)] if self.tasks else None
        if task is not None and task.done():
            try:
                self.note("awaited", await task)
            except BaseException as error:
                self.note("awaited", error)

    @operation(st.sampled_from([None, "noting", "refusing"]))
    def set_task_factory(self, kind):
        def noting(loop, coro, **kwargs):
            self.note("factory", loop is self.loop, sorted(name for name, value in kwargs.items() if value is not None))
            return asyncio.Task(coro, loop=loop, **kwargs)

        def refusing(loop, coro, **kwargs):
            coro.close()
            raise LookupError("no task")

        self.loop.set_task_factory({None: None, "noting": noting, "refusing": refusing}[kind])
        self.attempt("get_task_factory", self.loop.get_task_factory)
        if kind == "refusing":
            coro = self.body(0, "note")
            self.attempt("create_task", self.loop.create_task, coro)
            self.loop.set_task_factory(None)

    @operation(st.sampled_from([None, "noting", "raising", "interrupting"]))
    def set_exception_handler(self, kind):
        def raising(loop, context):
            raise ZeroDivisionError("in the handler")

        def interrupting(loop, context):
            raise KeyboardInterrupt("in the handler")

        handlers = {None: None, "noting": self.on_error, "raising": raising, "interrupting": interrupting}
        self.loop.set_exception_handler(handlers[kind])
        self.note("handler", self.loop.get_exception_handler() == handlers[kind])

    @operation(st.sampled_from([{"message": "m"}, {"message": "m", "exception": ValueError(1)}, {}, {"other": 1}]))
    def call_exception_handler(self, context):
        self.loop.set_exception_handler(None)
        self.attempt("call_exception_handler", self.loop.call_exception_handler, dict(context))

    @operation(st.booleans())
    def set_debug(self, debug):
        self.loop.set_debug(debug)
        self.note("debug", self.loop.get_debug())

    @operation(WRONG)
    def call_wrongly(self, call):
        name, *arguments = call
        if name == "create_task" and arguments[:1] == [print]:
            arguments = [print]
        if hasattr(asyncio.SelectorEventLoop, name):
            result = self.attempt(name, getattr(self.loop, name), *arguments)
            if isinstance(result, asyncio.Handle):
                result.cancel()

    @operation()
    def state(self):
        loop = self.loop
        self.note(
            "state",
            loop.is_running(),
            loop.is_closed(),
            asyncio.get_running_loop() is loop,
            len(asyncio.all_tasks(loop)),
        )

    async def finish(self):
        self.loop.set_task_factory(None)
        self.loop.now += 100
        await self.settle()
        for task in self.tasks:
            task.cancel()
        self.loop.now += 100
        await self.settle()
        await self.settle()
        for future in self.futures:
            self.note("in the end", future.done() and not future.cancelled() and future.exception())
        for task in self.tasks:
            self.note("in the end", task.done(), task.cancelled() if task.done() else None)
