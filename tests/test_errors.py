# SPDX-License-Identifier: MIT
"""How exceptions of callbacks leave a run, and which way they take to the exception handler."""

import asyncio

import pytest

from support import Recorder, connection, turns, within


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["callback", "timer", "reader", "data_received", "threadsafe"])
def test_exits_leave_the_run_and_the_rest_comes_with_the_next(loop, socket_pair, exception, where):
    left, right = socket_pair
    seen = []

    def leave():
        if where == "reader":
            loop.remove_reader(left)
        raise exception("on purpose")

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            seen.append(data)
            if len(seen) == 1:
                leave()

    if where == "callback":
        loop.call_soon(leave)
        loop.call_soon(seen.append, "rest")
    elif where == "timer":
        loop.call_later(0, leave)
        loop.call_later(0, seen.append, "rest")
    elif where == "reader":
        loop.add_reader(left, leave)
        right.send(b"x")
    elif where == "threadsafe":
        loop.call_soon_threadsafe(leave)
        loop.call_soon_threadsafe(seen.append, "rest")
    else:
        transport, _ = loop.run_until_complete(loop.connect_accepted_socket(Protocol, left))
        right.send(b"first")

    with pytest.raises(exception, match="on purpose"):
        loop.run_forever()
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()

    if where == "data_received":
        right.send(b"second")
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        assert seen == [b"first", b"second"]
        transport.abort()
        loop.run_until_complete(turns())
    elif where != "reader":
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        assert seen == ["rest"]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_exits_of_a_task_leave_run_until_complete(loop, exception):
    async def leave():
        await asyncio.sleep(0)
        raise exception

    with pytest.raises(exception):
        loop.run_until_complete(leave())


def test_other_base_exceptions_go_to_the_exception_handler(loop, loop_errors):
    class Odd(BaseException):
        pass

    def fail():
        raise Odd

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert isinstance(loop_errors.pop()["exception"], Odd)


def test_exception_handler_is_set_and_got(loop_factory, no_leaks):
    loop = loop_factory()
    seen = []

    def handler(loop, context):
        seen.append((loop, context))

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.call_exception_handler({"message": "hello"})
    assert seen == [(loop, {"message": "hello"})]
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("text")
    loop.close()


def test_default_exception_handler_logs(loop_factory, caplog, no_leaks):
    loop = loop_factory()
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    [record] = caplog.records
    assert record.name == "asyncio" and record.levelname == "ERROR"
    assert record.getMessage().startswith("Exception in callback ")
    assert record.exc_info[0] is ZeroDivisionError


def test_exception_handler_that_fails_is_logged_and_the_run_goes_on(loop_factory, caplog, no_leaks):
    loop = loop_factory()
    loop.set_exception_handler(lambda loop, context: 1 / 0)
    loop.call_soon(lambda: [][0])
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    loop.close()
    assert any("Unhandled error in exception handler" in record.getMessage() for record in caplog.records)


def test_exit_of_the_exception_handler_leaves_the_run(loop_factory, no_leaks):
    def handler(loop, context):
        raise SystemExit("handler")

    loop = loop_factory()
    loop.set_exception_handler(handler)
    loop.call_soon(lambda: [][0])
    with pytest.raises(SystemExit, match="handler"):
        loop.run_forever()
    loop.close()


@pytest.mark.ours("asyncio's writer fails for ever")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_of_two_interrupts_in_one_turn_both_leave_run_forever(loop, kind):
    """resume_writing, and the connection_lost that would follow at once."""

    class Interrupting(Recorder):
        def resume_writing(self):
            super().resume_writing()
            raise kind("resumed")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise kind("lost")

    seen = []

    async def exchange():
        async with connection(Interrupting) as ends:
            ends.server_transport.pause_reading()
            ends.client.write(bytes(20_000_000))
            assert ends.client_protocol.paused
            ends.client.close()
            ends.server_transport.resume_reading()
            await within(ends.client_protocol.lost)
            seen.extend(ends.client_protocol.events)

    task = loop.create_task(exchange())
    for text in ("resumed", "lost"):
        with pytest.raises(kind, match=text):
            loop.run_until_complete(task)
    loop.run_until_complete(task)
    assert seen == ["made", "pause", "resume", "lost"]
