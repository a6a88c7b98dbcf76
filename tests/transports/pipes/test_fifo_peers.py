"""FIFOs with other programs at the other end: socat, shells, programs in C."""

from __future__ import annotations

import subprocess
from pathlib import Path

import anyio
import pytest

from ...peers import compile_peer, process, run
from .fifos import receiving, sending

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("fifo", tmp_path_factory))


async def test_socat_sends(path: Path) -> None:
    async with receiving(path, framing="lines") as receiver:
        with process("socat", "-u", "-", f"PIPE:{path}") as socat, anyio.fail_after(10):
            assert socat.stdin is not None
            socat.stdin.write("one\ntwo\n")
            socat.stdin.close()
            assert [message async for message in receiver] == [b"one", b"two"]


async def test_socat_receives(path: Path) -> None:
    with process("socat", "-u", f"PIPE:{path},rdonly", "-") as socat, anyio.fail_after(10):
        async with sending(path, framing="lines") as sender:
            await sender.send_many([b"one", b"two"])
        assert socat.communicate(timeout=10)[0] == "one\ntwo\n"


async def test_shell_sends(path: Path) -> None:
    with anyio.fail_after(10):
        async with receiving(path, framing="none", wait=False) as receiver:
            await anyio.to_thread.run_sync(run, "sh", "-c", f"printf hello > {path}")
            assert b"".join([chunk async for chunk in receiver]) == b"hello"


@pytest.mark.parametrize(("framing", "size"), [("u32", 100), ("u32", 300_000), ("raw", 100)])
async def test_receives_from_c(framing: str, size: int, path: Path, c_peer: str) -> None:
    expected = [b"0 %d " % number + b"a" * (size - 4) for number in range(10)]
    with process(c_peer, "send", str(path), framing, "1", "10", str(size)) as peer, anyio.fail_after(20):
        async with receiving(path, framing="none" if framing == "raw" else framing) as receiver:
            got = [message async for message in receiver]
        assert (got == expected) if framing == "u32" else (b"".join(got) == b"".join(expected))
        assert peer.wait(10) == 0


async def test_sends_to_c(path: Path, c_peer: str) -> None:
    with process(c_peer, "receive", str(path), "u32") as peer, anyio.fail_after(20):
        async with sending(path) as sender:
            await sender.send_many([b"", b"\1\2", b"\1" * 300_000])
        assert peer.communicate(timeout=10)[0] == "0 0\n2 3\n300000 300000\n"
    with process(c_peer, "receive", str(path), "raw") as peer, anyio.fail_after(20):
        async with sending(path, framing="none") as sender:
            await sender.send_many([b"hel", b"lo"])
        assert peer.communicate(timeout=10)[0] == "hello"


async def test_c_reader_that_leaves(path: Path) -> None:
    with process("head", "-c", "5", str(path)) as head, anyio.fail_after(10):
        async with sending(path, framing="none") as sender:
            await sender.send(b"hello")
            assert head.wait(10) == 0
            with pytest.raises(anyio.BrokenResourceError):
                await sender.send(b"nobody")


async def test_sends_to_a_childs_standard_input(path: Path) -> None:
    """The child's own open(2), by the shell, is what the sender waits for."""
    with subprocess.Popen(["sh", "-c", f"sort < {path}"], stdout=subprocess.PIPE, text=True) as sort, anyio.fail_after(10):
        async with sending(path, framing="lines") as sender:
            await sender.send_many([b"two", b"one"])
        assert sort.communicate(timeout=10)[0] == "one\ntwo\n"
