"""Errors of accept(2) that are the new connection's: the kernel gives them, by a seccomp filter, and serving goes on."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from ...conftest import LOOPS
from ...peers import python, said, tell

GONE = ("ECONNABORTED", "EPERM", "ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH", "EOPNOTSUPP")
GONE += ("ENETUNREACH",)

SERVER = """
import sys
import anyio, aipc
from tests.peers.failing import fail_next

async def echo(channel):
    await channel.send(await channel.receive())

async def accepting(listener):
    async for channel in listener:
        async with channel:
            await echo(channel)

async def main():
    async with aipc.listen(sys.argv[2], framing="lines") as listener, anyio.create_task_group() as tasks:
        fail_next("accept4", *eval(sys.argv[4]))
        print("there", flush=True)
        if sys.argv[3] == "alone":
            try:
                await listener.serve(echo)
            except OSError as error:
                sys.exit(str(error))
        tasks.start_soon(*(listener.serve, echo) if sys.argv[3] == "serve" else (accepting, listener))
        await anyio.to_thread.run_sync(sys.stdin.readline)
        print(listener.statistics().accepted, listener.statistics().failed, flush=True)
        tasks.cancel_scope.cancel()

backend, options = eval(sys.argv[1])
anyio.run(main, backend=backend, backend_options=options)
"""


def answers(path: Path, loop: str, how: str, codes: list[int]) -> None:
    """A server whose accept4(2) fails so many times serves two clients one after the other, and ends well."""
    with python(SERVER, repr(LOOPS[loop]), f"unix:{path}", how, repr(codes)) as server:
        assert said(server) == "there"
        for number in range(2):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(20)
                peer.connect(str(path))
                peer.sendall(b"%d\n" % number)
                assert peer.recv(100) == b"%d\n" % number
        tell(server, "enough")
        assert said(server) == f"2 {len(codes)}"
        assert server.wait(20) == 0


@pytest.mark.parametrize("how", ["serve", "accept"])
@pytest.mark.parametrize("loop", LOOPS)
def test_each(loop: str, how: str, place: Path) -> None:
    answers(place / "socket", loop, how, [getattr(errno, name) for name in GONE])


def test_for_long(place: Path) -> None:
    """It rests in between."""
    answers(place / "socket", "asyncio", "serve", [errno.EPERM] * 250)


def test_others_end_it(place: Path) -> None:
    with python(SERVER, repr(LOOPS["asyncio"]), f"unix:{place}/socket", "alone", repr([errno.EFAULT])) as server:
        assert said(server) == "there"
        assert server.wait(20) == 1  # its first try is refused, though nobody connects
