"""`aipc.pipeline`: data through children in a row, their statuses, and their ends."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from tests.subjects import times

from .conftest import children

pytestmark = pytest.mark.anyio


async def test_sort_uniq() -> None:
    words = b"b\na\nb\nb\nc\n"
    async with aipc.pipeline(["cat"], "sort", "uniq -c") as pipeline, anyio.create_task_group() as tasks:
        assert pipeline.stdin is not None
        assert pipeline.stdout is not None

        async def send() -> None:
            assert pipeline.stdin is not None
            await pipeline.stdin.send(words)
            await pipeline.stdin.send_eof()

        tasks.start_soon(send)
        with anyio.fail_after(30):
            got = b"".join([chunk async for chunk in pipeline.stdout])
            assert got.split() == [b"1", b"a", b"3", b"b", b"1", b"c"]
            assert await pipeline.wait() == [0, 0, 0]
        assert len(pipeline.pids) == 3
    assert pipeline.returncodes == [0, 0, 0]


async def test_lines() -> None:
    async with aipc.pipeline("printf 'b\\na\\nb\\n'", "sort", framing="lines") as pipeline:
        assert pipeline.stdout is not None
        with anyio.fail_after(30):
            assert [line async for line in pipeline.stdout] == [b"a", b"b", b"b"]
        with pytest.raises(aipc.UnsupportedOperation, match="framing"):
            await pipeline.communicate()


@pytest.mark.parametrize("stages", [1, 3])
async def test_many_mib_through_cat(stages: int) -> None:
    data = os.urandom(1 << 20) * times(20, 100)
    with anyio.fail_after(60):
        async with aipc.pipeline(*["cat"] * stages) as pipeline:
            got = await pipeline.communicate(memoryview(data))
    assert len(got) == len(data)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    assert pipeline.returncodes == [0] * stages


async def test_a_reader_that_stops_early() -> None:
    with anyio.fail_after(30):
        async with aipc.pipeline("cat", "head -c 5") as pipeline:
            assert await pipeline.communicate(bytes(10_000_000)) == bytes(5)
    assert pipeline.returncodes == [-signal.SIGPIPE, 0]
    with anyio.fail_after(30):
        async with aipc.pipeline("yes", "head -n 2", pipefail=True) as pipeline:
            assert await pipeline.communicate() == b"y\ny\n"
    assert pipeline.returncode == -signal.SIGPIPE


@pytest.mark.parametrize(
    ("statuses", "plain", "pipefail"), [((0, 0, 0), 0, 0), ((1, 2, 0), 0, 2), ((1, 0, 0), 0, 1), ((0, 0, 5), 5, 5)]
)
async def test_statuses(statuses: tuple[int, ...], plain: int, pipefail: int) -> None:
    commands = [f"cat; exit {status}" for status in statuses]
    for option, expected in ((False, plain), (True, pipefail)):
        async with aipc.pipeline(*commands, shell=True, pipefail=option) as pipeline:
            assert pipeline.returncodes == [None, None, None]
            assert pipeline.returncode is None
            with anyio.fail_after(30):
                assert await pipeline.communicate(b"x") == b"x"
            assert pipeline.returncodes == list(statuses)
            assert pipeline.returncode == expected


async def test_status_that_waits_for_the_others() -> None:
    for option, expected in ((False, 0), (True, None)):
        async with aipc.pipeline("cat", "true", pipefail=option) as pipeline:
            with anyio.fail_after(30):
                while pipeline.returncodes[1] is None:
                    await anyio.sleep(0.001)
            assert pipeline.returncode == expected


async def test_a_stage_that_cannot_start() -> None:
    for last in (["no-such-program"], "echo 'one", []):
        with pytest.raises((aipc.ObjectMissing, aipc.AddressError), match="pipeline, stage 3"):
            async with aipc.pipeline("cat", "cat", last):
                pytest.fail("it started")
        assert children() == []
    with pytest.raises(aipc.AddressError, match="at least one command"):
        await aipc.pipeline()


async def test_cancelled_all_are_terminated(misbehaving: str) -> None:
    with anyio.move_on_after(0.01):
        async with aipc.pipeline("cat", "sort", "cat") as pipeline:
            assert pipeline.stdout is not None
            await pipeline.stdout.receive()
    assert pipeline.returncodes == [-signal.SIGTERM] * 3
    with anyio.move_on_after(60) as scope:
        async with aipc.pipeline("cat", [misbehaving, "stubborn"], "cat", grace=0.05) as pipeline:
            assert pipeline.stdout is not None
            assert await pipeline.stdout.receive() == b"ready\n"
            scope.cancel()
            await pipeline.stdout.receive()
    assert pipeline.returncodes == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM]


async def test_communicate_cancelled() -> None:
    async with aipc.pipeline("cat", "sleep 60") as pipeline:
        with anyio.move_on_after(0.01) as scope:
            await pipeline.communicate(bytes(1_000_000))
        assert scope.cancelled_caught
        assert pipeline.returncodes[1] is None
        pipeline.terminate()
        with anyio.fail_after(30):
            assert (await pipeline.wait())[1] == -signal.SIGTERM


async def test_communicate_after_the_end_of_input() -> None:
    for end in ("send_eof", "aclose"):
        async with aipc.pipeline("cat") as pipeline:
            assert pipeline.stdin is not None
            await pipeline.stdin.send(b"sent before")
            await getattr(pipeline.stdin, end)()
            with anyio.fail_after(30):
                with pytest.raises(anyio.ClosedResourceError):
                    await pipeline.communicate(b"too late")
    async with aipc.pipeline("cat") as pipeline:
        assert pipeline.stdin is not None
        await pipeline.stdin.send(b"sent before")
        await pipeline.stdin.send_eof()
        with anyio.fail_after(30):
            assert await pipeline.communicate() == b"sent before"


async def test_awaited_and_closed() -> None:
    pipeline = await aipc.pipeline("cat", "cat")
    pipeline.kill()
    with anyio.fail_after(30):
        assert await pipeline.wait() == [-9, -9]
    await pipeline.aclose()
    await pipeline.aclose()
    assert pipeline.stdin is not None
    with pytest.raises(anyio.ClosedResourceError):
        await pipeline.stdin.send(b"x")


async def test_files_and_devnull(place: Path) -> None:
    (place / "in").write_bytes(b"b\na\n")
    with (place / "in").open("rb") as source, (place / "out").open("wb") as target:
        async with aipc.pipeline("cat", "sort", stdin=source, stdout=target.fileno()) as pipeline:
            assert pipeline.stdin is None
            assert pipeline.stdout is None
            with anyio.fail_after(30):
                assert await pipeline.communicate() == b""
            with pytest.raises(aipc.AddressError, match="stdin was redirected"):
                await pipeline.communicate(b"x")
    assert (place / "out").read_bytes() == b"a\nb\n"
    async with aipc.pipeline("cat", stdin=subprocess.DEVNULL) as pipeline:
        with anyio.fail_after(30):
            assert await pipeline.communicate() == b""


async def test_stderr(place: Path) -> None:
    commands: tuple[Any, ...] = ("echo error >&2; cat", "cat; echo too >&2")
    async with aipc.pipeline(*commands, shell=True, stderr=subprocess.STDOUT) as pipeline:
        with anyio.fail_after(30):
            assert sorted((await pipeline.communicate(b"in\n")).split()) == [b"error", b"in", b"too"]
    with (place / "errors").open("wb") as file:
        async with aipc.pipeline(*commands, shell=True, stderr=file) as pipeline:
            with anyio.fail_after(30):
                assert await pipeline.communicate(b"in\n") == b"in\n"
    assert sorted((place / "errors").read_text().split()) == ["error", "too"]


async def test_no_stage_holds_anothers_pipe() -> None:
    """Each stage has three descriptors; with one more of a pipe's writing end its reader would wait for ever."""
    show = ["sh", "-c", "cat; ls /proc/$$/fd; :"]
    async with aipc.pipeline(show, show, show) as pipeline:
        with anyio.fail_after(30):
            assert await pipeline.communicate() == b"0\n1\n2\n" * 3
