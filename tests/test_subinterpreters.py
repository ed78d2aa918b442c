# SPDX-License-Identifier: MIT
"""Subinterpreters with a GIL of their own: each imports rloop anew, runs loops, closes them, also several at once."""

import sys

import pytest

from support import program, run_program

pytestmark = pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio itself crashes there before Python 3.13")

# In a fresh interpreter: in_one(code) runs it in a subinterpreter, which then ends; in_all(codes) in several, at once.
PRELUDE = """
import _interpreters as interpreters

def in_one(code):
    number = interpreters.create("isolated")
    try:
        error = interpreters.exec(number, PRELUDE + code)
        assert error is None, error.errdisplay
    finally:
        interpreters.destroy(number)

def in_all(codes):
    errors = []
    def work(code):
        try:
            in_one(code)
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=work, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
"""

TRAFFIC = """
async def main():
    loop = asyncio.get_running_loop()
    async with connection(Recorder, Echo) as pair:
        for _ in range(20):
            pair.client.write(b"x" * 1000)
            pair.client.writelines([b"y"] * 10)
        await until(lambda: len(pair.client_protocol.data) == 20_200)
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await until(lambda: protocol.data == [b"x"])
    transport.close()
    await protocol.lost
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        await loop.sock_sendall(left, b"line\\n")
        reader, writer = await asyncio.open_connection(sock=right)
        assert await reader.readline() == b"line\\n"
        writer.close()
        await writer.wait_closed()
    assert await loop.run_in_executor(None, int) == 0
    for _ in range(100):
        loop.call_soon(int)
        loop.call_later(1000, int).cancel()
    await asyncio.sleep(0.001)
for _ in range(3):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
"""


def run(loop_spec, code, **options):
    prelude = program(loop_spec, "")[-1]
    return run_program(loop_spec, f"PRELUDE = {prelude!r}\n{PRELUDE}\nTRAFFIC = {TRAFFIC!r}\n{code}", **options)


def test_one_after_the_other(loop_spec):
    """What the process holds from the system does not grow with the interpreters that it has had."""
    out = run(
        loop_spec,
        """
in_one(TRAFFIC)
before = open_fds().keys()
for _ in range(5):
    in_one(TRAFFIC)
print(open_fds().keys() == before)
""",
    )
    assert out == "True\n"


def test_several_at_once(loop_spec):
    run(loop_spec, "in_all([TRAFFIC] * 3)")


def test_beside_the_main_interpreters_own_loop(loop_spec):
    out = run(
        loop_spec,
        """
async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(asyncio.to_thread(in_one, TRAFFIC) for _ in range(2)))
    ticking.cancel()
    print(ticks > 10)
loop = new_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
""",
    )
    assert out == "True\n"


@pytest.mark.ours("both of our loops")
def test_both_loops_at_once(loop_spec):
    other = {"rloop:RLoop": "rloop:TokioLoop", "rloop:TokioLoop": "rloop:RLoop"}[loop_spec]
    run(loop_spec, f"in_all([TRAFFIC, f'new_loop = load({{{other!r}!r}})' + TRAFFIC])")


def test_an_interpreter_that_ends_with_a_loop_left_open(loop_spec):
    """Its module goes while handles, timers and transports live; ResourceWarnings are all that comes of it."""
    run(
        loop_spec,
        """
in_one('''
warnings.simplefilter("ignore")
async def main():
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    transport.write(bytes(1 << 20))
    loop.call_later(1000, print, loop)
    await turns()
    return server, transport, protocol
loop = new_loop()
kept = loop.run_until_complete(main())
kept_handles = [loop.call_soon(int) for _ in range(100)]
''')
in_one(TRAFFIC)
""",
        check_stderr=False,
    )


def test_ctrl_c_is_the_main_interpreters_business(loop_spec):
    """A loop in a subinterpreter, though in the main thread, neither takes the signals over nor fails for it."""
    out = run(
        loop_spec,
        """
in_one('''
async def main():
    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, int)
    except RuntimeError as error:
        print("refused", flush=True)
    await asyncio.sleep(0.01)
with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
''')
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
""",
    )
    assert out == "refused\nheard\n"
