"""`aipc call`, as a shell runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest

from .calling import Service, listening

pytestmark = pytest.mark.anyio


async def call(*arguments: str) -> tuple[str, str, int]:
    def run() -> tuple[str, str, int]:
        done = subprocess.run([sys.executable, "-m", "aipc", "call", *arguments], check=False, capture_output=True, text=True)
        return done.stdout, done.stderr, done.returncode

    return await anyio.to_thread.run_sync(run)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_calls_from_the_shell(place: Path) -> None:
    url = f"unix:{place}/socket"
    async with listening(Service(), url):
        assert await call(url, "add", "a=1", "b=2") == ("3\n", "", 0)
        assert await call(url, "echo", '{"a": [1, null]}') == ('{"a":[1,null]}\n', "", 0)
        assert await call(url, "count", "3", "--stream") == ("0\n1\n2\n", "", 0)
        assert await call(url, "nothing") == ("", "aipc: Method not found: nothing (code -32601)\n", 1)
        assert await call(url, "wait", "--timeout", "0.1") == ("", "aipc: no answer in time\n", 1)
    out, error, code = await call(url, "add")
    assert (out, code) == ("", 3)
    assert error.startswith("aipc: ")
    async with listening(Service(), url + "?framing=lines", "json"):
        assert await call(url + "?framing=lines", "add", "1", "2", "--codec", "json") == ("3\n", "", 0)
