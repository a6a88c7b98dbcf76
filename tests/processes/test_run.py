"""`aipc.run`, and a child's stderr as a channel."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from pathlib import Path

import anyio
import pytest

import aipc

pytestmark = pytest.mark.anyio


async def test_it_sends_all_and_receives_all() -> None:
    data = os.urandom(300_000)  # more than two pipes hold
    done = await aipc.run(["sh", "-c", "tee /dev/stderr"], input=data)
    assert (done.stdout, done.stderr, done.returncode) == (data, data, 0)
    assert isinstance(done, subprocess.CompletedProcess)


async def test_no_input_is_its_end_and_a_reader_that_stops_is_no_error() -> None:
    assert (await aipc.run("cat")).stdout == b""
    assert (await aipc.run(["head", "-c", "1"], input=bytes(1_000_000))).stdout == b"\0"


async def test_a_command_that_fails() -> None:
    command = "echo out; echo first >&2; echo last >&2; exit 3"
    with pytest.raises(aipc.CommandFailed, match=r"exit status 3: last$") as caught:
        await aipc.run(command, shell=True)
    assert isinstance(caught.value, subprocess.CalledProcessError)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.returncode, error.stdout, error.stderr) == (3, b"out\n", b"first\nlast\n")
        assert (error.cmd, error.outcome) == (command, "exit status 3")
    done = await aipc.run(command, shell=True, check=False)
    assert (done.returncode, done.stdout) == (3, b"out\n")
    with pytest.raises(aipc.CommandFailed, match=r"killed by SIGKILL$") as caught:
        await aipc.run("kill -9 $$", shell=True)
    assert caught.value.returncode == -signal.SIGKILL
    with pytest.raises(aipc.ObjectMissing):
        await aipc.run("/no/such/program")


async def test_redirected_output_is_none(place: Path) -> None:
    with open(place / "out", "wb") as file:
        done = await aipc.run("echo one; echo two >&2", shell=True, stdout=file, stderr=subprocess.DEVNULL)
    assert (done.stdout, done.stderr) == (None, None)
    assert (place / "out").read_bytes() == b"one\n"
    done = await aipc.run("echo one; echo two >&2", shell=True, stderr=subprocess.STDOUT)
    assert (done.stdout, done.stderr) == (b"one\ntwo\n", None)


async def test_cancelled_it_leaves_no_process(place: Path) -> None:
    os.mkfifo(place / "fifo")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(aipc.run, ["sh", "-c", f"echo $$ >{place}/fifo; exec sleep 60"])
        async with aipc.open_channel(f"fifo:{place}/fifo", direction="receive", framing="lines") as started:
            pid = int(await started.receive())
        tasks.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_errors_as_a_channel() -> None:
    async with aipc.popen("echo out; echo err >&2", shell=True, framing="lines", stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        assert await child.stderr.receive() == b"err"
        assert await child.receive() == b"out"
        with pytest.raises(anyio.EndOfStream):
            await child.stderr.receive()
        assert "(stderr)" in repr(child.stderr)
    with pytest.raises(anyio.ClosedResourceError):
        await child.stderr.receive()
    async with aipc.popen("true") as child:
        assert child.stderr is None
