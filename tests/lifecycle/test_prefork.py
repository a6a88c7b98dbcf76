"""The prefork example: workers that share a socket, replaced and killed while clients never stop connecting."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

import aipc

from ..peers import process, said
from ..subjects import times

pytestmark = pytest.mark.anyio
EXAMPLE = str(Path(__file__).parents[2] / "examples" / "prefork_server.py")


def workers_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.costly
async def test_restarted_without_refusing_anybody(place: Path) -> None:
    """Each connection is accepted and answered, through restarts; then the server stops, with 0."""
    url = f"unix:{place}/web.sock"
    answers: Counter[int] = Counter()
    with process(sys.executable, "-W", "error", EXAMPLE, url) as server, anyio.fail_after(120):
        assert "4 workers listen" in said(server)
        asking = True

        async def ask(number: int) -> None:
            while asking:
                async with aipc.open_channel(url, framing="none") as connection:
                    await connection.send(b"GET /%d HTTP/1.1\r\n\r\n" % number)
                    answer = b"".join([chunk async for chunk in connection])
                assert answer.endswith(b"you asked for /%d\n" % number)
                answers[int(answer.rpartition(b"\r\n")[2].split()[0])] += 1

        async def ask_more() -> None:
            before = sum(answers.values())
            while sum(answers.values()) < before + 100:
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
            await ask_more()
            first = workers_of(server.pid)
            for _ in range(times(1, 3)):
                old = workers_of(server.pid)
                assert len(old) == 4
                aipc.send_signal(server.pid, signal.SIGHUP)
                while workers_of(server.pid) & old or len(workers_of(server.pid)) != 4:
                    await anyio.sleep(0.01)
                await ask_more()
            asking = False
        aipc.send_signal(server.pid, signal.SIGTERM)
        assert server.wait(30) == 0
    assert answers.keys() & first
    assert answers.keys() - first
    assert list(place.iterdir()) == []


@pytest.mark.costly
async def test_killed_workers_are_replaced(place: Path) -> None:
    url = f"unix:{place}/web.sock"
    with process(sys.executable, "-W", "error", EXAMPLE, url) as server, anyio.fail_after(60):
        assert "4 workers listen" in said(server)
        old = workers_of(server.pid)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        while workers_of(server.pid) & old or len(workers_of(server.pid)) != 4:
            await anyio.sleep(0.01)
        async with aipc.open_channel(url, framing="none") as connection:
            await connection.send(b"GET /x HTTP/1.1\r\n\r\n")
            assert (await connection.receive()).startswith(b"HTTP/1.1 200 OK")
        server.terminate()
        assert server.wait(30) == 0
