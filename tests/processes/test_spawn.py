"""Python workers: what they run, how they end, and what their parent learns of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io.loop import backend
from aipc.testing.expect import until
from tests.peers import process, python, said
from tests.subjects import times

from . import early_sigterm, functions
from .conftest import children
from .test_groups_and_usage import lives

pytestmark = pytest.mark.anyio


class Left(Exception):
    """The block is left by an error."""


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "shm"])
async def test_messages_arguments_and_result(kind: str) -> None:
    async with aipc.spawn(functions.echo, 1, "two", channel=kind) as worker:
        assert worker.pid != os.getpid()
        for message in (b"hello", b"", bytes(range(256)) * 500):
            await worker.channel.send(message)
            assert await worker.channel.receive() == message
        assert worker.returncode is None
    assert worker.returncode == 0
    assert worker.outcome == "exit status 0"
    assert worker.usage is not None
    assert await worker.result() == (1, "two")
    assert not worker.forced


@pytest.mark.costly
@pytest.mark.parametrize("kind", ["stream", "shm"])
async def test_more_than_the_kernel_holds(kind: str) -> None:
    """Over a channel, in the arguments and in the result: none of it waits for somebody to read."""
    big = bytes(10_000_000)
    async with aipc.spawn(functions.echo, big) as worker, anyio.create_task_group() as tasks:
        tasks.start_soon(worker.channel.send, big)
        assert await worker.channel.receive() == big
    assert await worker.result() == (big,)


@pytest.mark.parametrize("loop", [None, "asyncio", "uvloop", "trio"])
async def test_loop(loop: str | None) -> None:
    """The parent's own, or what was asked for."""
    async with aipc.spawn(functions.loop_name, loop=loop) as worker:
        assert await worker.result() == (loop or backend.running_name())


async def test_error_comes_back_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="no good") as caught:  # noqa: PT012 - it is raised at the end
        async with aipc.spawn(functions.fail, ValueError("no good")) as worker:
            await worker.channel.send(b"go")
            assert await worker.wait() == 1
    assert "functions.py" in str(caught.value.__cause__)
    assert "raise error" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="no good"):
        await worker.result()


async def test_error_that_was_told_is_not_told_again() -> None:
    async with aipc.spawn(functions.fail, OSError(5, "no good")) as worker:
        await worker.channel.send(b"go")
        with pytest.raises(OSError, match="no good"):
            await worker.result()
    assert worker.returncode == 1


async def test_error_that_cannot_travel() -> None:
    with pytest.raises(aipc.WorkerFailed, match=r"(?s)fail_unpicklably.*it can't travel"):
        async with aipc.spawn(functions.fail_unpicklably):
            pass


async def test_value_that_cannot_travel() -> None:
    with pytest.raises(TypeError, match="result cannot be pickled"):
        async with aipc.spawn(functions.value, "lambda: 1"):
            pass


async def test_end_of_stream_says_why() -> None:
    with pytest.raises(anyio.EndOfStream) as caught:  # noqa: PT012 - it is raised at the end
        async with aipc.spawn(functions.fail, ValueError("no good")) as worker:
            await worker.channel.send_eof()
            await worker.channel.receive()
    (note,) = caught.value.__notes__
    assert "ValueError('no good')" in note


@pytest.mark.parametrize("broken", [lambda channel: None, functions.echo.__code__, 5])
async def test_what_cannot_travel_is_refused_at_once(broken: object) -> None:
    with pytest.raises(TypeError, match="spawn"):
        aipc.spawn(broken)
    with pytest.raises(TypeError, match="pickle"):
        aipc.spawn(functions.echo, lambda: 1)
    with pytest.raises(aipc.AddressError, match="stream, seqpacket, shm"):
        await aipc.spawn(functions.echo, channel="carrier pigeon")
    with pytest.raises(aipc.AddressError, match="asyncio, uvloop, trio"):
        aipc.spawn(functions.echo, loop="twisted")


@pytest.mark.costly
async def test_a_plain_function_is_an_error_of_its_own() -> None:
    with pytest.raises(TypeError):
        async with aipc.spawn(functions.plain):
            pass


@pytest.mark.parametrize("how", ["sys.exit", "os._exit", "after a while"])
@pytest.mark.parametrize("status", [0, 5])
async def test_leave_by_an_exit_status(how: str, status: int) -> None:
    """As the books' children do: no error when the block is left; only what it returned can't be had."""
    async with aipc.spawn(functions.leave, how, status) as worker:
        if how != "after a while":
            assert await worker.wait() == status
    assert worker.returncode == status
    with pytest.raises(aipc.WorkerDied, match=f"exit status {status}"):
        await worker.result()


@pytest.mark.parametrize("how", ["KeyboardInterrupt", "abort"])
async def test_no_status_of_its_own(how: str) -> None:
    with pytest.raises(aipc.WorkerDied, match="without a result"):
        async with aipc.spawn(functions.leave, how, 1):
            pass


async def test_killed_while_it_is_asked() -> None:
    """A request in flight ends at once; leaving says what happened."""
    with pytest.raises(aipc.WorkerDied, match="killed by SIGKILL"):  # noqa: PT012 - it is raised at the end
        async with aipc.spawn(functions.answer) as worker:
            await worker.channel.send(b"die")
            with anyio.fail_after(30), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await worker.channel.receive()
    assert worker.returncode == -signal.SIGKILL


async def test_killed_as_asked_is_no_error() -> None:
    async with aipc.spawn(functions.answer) as worker:
        worker.kill()
        assert await worker.wait() == -signal.SIGKILL
    with pytest.raises(aipc.WorkerDied):
        await worker.result()


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "shm"])
async def test_death_is_seen_though_a_grandchild_holds_the_channel(kind: str) -> None:
    async with aipc.spawn(functions.with_grandchild, channel=kind) as worker:
        grandchild = int(await worker.channel.receive())
        worker.kill()
        with anyio.fail_after(30), pytest.raises(anyio.EndOfStream):
            await worker.channel.receive()
        with pytest.raises(anyio.BrokenResourceError):  # noqa: PT012 - it is raised at the end
            while True:
                await worker.channel.send(b"x")
    assert lives(grandchild)
    os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("how", ["cancelled", "error", "terminate", "from outside"])
async def test_sigterm_cancels_the_function(how: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with anyio.CancelScope() as scope:
        try:
            async with aipc.spawn(functions.stay, str(mark)) as worker:
                assert await worker.channel.receive() == b"ready"
                if how == "cancelled":
                    scope.cancel()
                    await worker.channel.receive()
                if how == "error":
                    raise Left
                if how == "terminate":
                    worker.terminate()
                else:
                    os.kill(worker.pid, signal.SIGTERM)
                await worker.wait()
        except Left:
            pass
    assert mark.read_text() == "cleaned up"
    assert worker.returncode == -signal.SIGTERM
    assert not worker.forced


_PRINTING = """
import anyio, aipc
from tests.processes import functions
async def main():
    async with aipc.spawn(functions.print_and_stay) as worker:
        assert await worker.channel.receive() == b"printed"
        worker.terminate()
        await worker.wait()
        print(worker.returncode, flush=True)
anyio.run(main)
"""


@pytest.mark.costly
def test_what_a_terminated_function_printed_is_written() -> None:
    """It dies by the signal, which would lose what Python holds back for a pipe."""
    with process("env", "-u", "PYTHONUNBUFFERED", sys.executable, "-c", _PRINTING) as parent:
        assert [said(parent), said(parent)] == ["from the worker", str(-signal.SIGTERM)]


async def test_what_heeds_nothing_is_killed() -> None:
    async with aipc.spawn(functions.stubborn, grace=0.05) as worker:
        assert await worker.channel.receive() == b"ready"
    assert worker.forced
    assert worker.returncode == -signal.SIGKILL


@pytest.mark.costly
async def test_left_before_it_has_begun() -> None:
    async with aipc.spawn(functions.echo) as worker:
        pass
    assert worker.returncode == 0
    with pytest.raises(Left):
        async with aipc.spawn(functions.echo) as worker:
            raise Left
    assert worker.returncode == -signal.SIGTERM


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "shm"])
async def test_what_was_sent_is_received_before_the_end(kind: str) -> None:
    async with aipc.spawn(functions.echo, channel=kind) as worker:
        for number in range(100):
            await worker.channel.send(b"%d" % number)
        await worker.channel.send_eof()
        await worker.wait()
        assert [message async for message in worker.channel] == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "shm"])
async def test_messages_that_nobody_takes_are_no_error(kind: str) -> None:
    async with aipc.spawn(functions.echo, channel=kind) as worker:
        await worker.channel.send(b"unread")
    assert worker.returncode == 0


async def test_interrupt_is_the_parents_business() -> None:
    async with aipc.spawn(functions.echo) as worker:
        await worker.channel.send(b"x")
        await worker.channel.receive()
        worker.send_signal(signal.SIGINT)
        await worker.channel.send(b"still here")
        assert await worker.channel.receive() == b"still here"


async def test_descriptors_travel() -> None:
    reading, writing = os.pipe()
    async with aipc.spawn(functions.descriptor) as worker:
        await worker.channel.send(b"here", fds=[writing])
        os.close(writing)
        await worker.wait()
    assert os.read(reading, 100) == b"from the worker"
    os.close(reading)


async def test_inherits_nothing_else() -> None:
    """No descriptor, however inheritable it is here."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    name = os.readlink(f"/proc/self/fd/{reading}")
    async with aipc.spawn(functions.value, "descriptors()") as worker:
        held = await worker.result()
    assert len(held) > 3
    assert not any(entry.endswith(name) for entry in held)
    os.close(reading)
    os.close(writing)


async def test_closing_twice_and_awaiting() -> None:
    worker = await aipc.spawn(functions.echo)
    await worker.aclose()
    await worker.aclose()
    assert worker.returncode == 0
    with pytest.raises(anyio.ClosedResourceError):
        await worker.channel.receive()


_PARENT = """
import sys, anyio, aipc
from tests.processes import functions
async def main():
    async with aipc.spawn(functions.stay, sys.argv[1]) as worker:
        await worker.channel.receive()
        print(worker.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


async def test_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed: the function is cancelled, and cleans up."""
    mark = tmp_path / "mark"
    with python(_PARENT, str(mark)) as parent:
        pid = int(said(parent))
        parent.kill()
    await until(lambda: not lives(pid))
    assert mark.read_text() == "cleaned up"


_SCRIPT = """
import sys, anyio, aipc

async def double(channel, nested):
    if nested:
        async with aipc.spawn(double, False) as worker:
            await worker.channel.send(await channel.receive())
            return await worker.result()
    return 2 * int(await channel.receive())

async def main():
    async with aipc.spawn(double, True) as worker:
        await worker.channel.send(b"21")
        print(await worker.result())

if __name__ == "__main__":
    print("once")
    anyio.run(main)
"""


@pytest.mark.costly
def test_functions_of_the_main_script(tmp_path: Path) -> None:
    """By its file or as a module; in a worker, and in a worker's worker. What stands below `if __name__` runs once."""
    (tmp_path / "script.py").write_text(_SCRIPT)
    for command in (["script.py"], ["-m", "script"]):
        run = [sys.executable, "-W", "error", *command]
        done = subprocess.run(run, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("once\n42\n", "")


def test_a_main_script_without_a_file() -> None:
    code = "import aipc\nasync def f(channel): pass\ntry: aipc.spawn(f)\nexcept TypeError as error: print(error)"
    with python(code) as child:
        assert "__main__ is not a file" in said(child)


async def test_a_service_in_a_worker_stops_by_itself(tmp_path: Path) -> None:
    """SIGTERM does not cancel a function that receives SIGTERM: it drains."""
    url = f"unix:{tmp_path}/socket"
    async with aipc.spawn(functions.serve, url) as worker:
        await worker.channel.receive()
        async with aipc.open_channel(url) as client:
            await client.send(b"x")
            assert await client.receive() == b"begun"
            worker.terminate()
            assert await client.receive() == b"x"
        assert await worker.wait() == 0


async def test_sigterm_before_the_worker_receives_signals() -> None:
    env = {**os.environ, "AIPC_TESTS_EARLY": "1"}
    async with aipc.spawn(early_sigterm.stay, env=env, grace=60) as worker:
        with anyio.fail_after(20):
            assert await worker.wait() == -signal.SIGTERM


async def test_a_descriptor_in_the_read_of_an_earlier_message() -> None:
    """Both messages are there when the worker starts, and one read takes them."""
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        async with aipc.spawn(functions.write_into_second) as worker:
            await worker.channel.send(b"plain")
            await worker.channel.send(b"with it", fds=[writing])
            os.close(writing)
            await worker.result()
        assert pipe.read() == b"with it"


@pytest.mark.costly
async def test_200_starts_and_cancels() -> None:
    """Each costs an interpreter's start, so 201 of them on the three loops, and not 10,000."""
    starts = times(20, 67)
    for number in range(starts):
        with anyio.move_on_after(number * 0.067 / starts):
            async with aipc.spawn(functions.echo) as worker:
                await worker.channel.send(b"x")
                await worker.channel.receive()
                await anyio.sleep_forever()
    assert children() == []
