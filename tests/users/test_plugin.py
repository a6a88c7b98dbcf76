"""The fixtures of `aipc.pytest_plugin`, in a pytest of its own, with each plugin that runs async tests."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from aipc.testing import nothing_left

TESTS = """
import os
import subprocess

import aipc
import anyio
import pytest

kept = []

async def echo(url):
    async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        async with aipc.open_channel(url) as channel:
            await channel.send(b"hello")
            assert await channel.receive() == b"hello"
        tasks.cancel_scope.cancel()

async def answer(channel):
    async for message in channel:
        await channel.send(message)

@pytest.mark.asyncio
async def test_asyncio(aipc_url, nothing_left):
    assert aipc_url.startswith("unix:")
    await echo(aipc_url)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("aipc_url", ["unix", "shm", "unix+seqpacket"], indirect=True)
async def test_anyio(aipc_url, anyio_backend, nothing_left):
    await echo(aipc_url)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("aipc_url", ["posix-mq", "sysv-mq", "jobs"], indirect=True)
async def test_queues(aipc_url):
    async with aipc.open_channel(aipc_url, create=True) as queue:
        await queue.send(b"one")

def test_keys(sysv_key, nothing_left):
    pass

def test_key(sysv_key):
    aipc.SysVSharedMemory.create(sysv_key, 10, unlink=False).close()

def test_leaks_a_descriptor(nothing_left):
    kept.append(open(os.devnull))

def test_leaks_a_process(nothing_left):
    kept.append(subprocess.Popen(["sleep", "60"]))

def test_leaks_an_object(nothing_left, sysv_key):
    aipc.SysVSharedMemory.create(sysv_key, 10, unlink=False).close()
    kept.append(sysv_key)

@pytest.mark.parametrize("aipc_url", ["pigeon"], indirect=True)
def test_unknown(aipc_url):
    pass

def test_clean_up():
    file, process, key = kept
    file.close()
    process.kill()
    process.wait()
    aipc.remove_object("sysv-shm", key)
"""


@pytest.mark.costly
def test_with_each_plugin(place: Path) -> None:
    (place / "test_theirs.py").write_text(TESTS)
    (place / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    with nothing_left():
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={place}/own",
            "-rA",
            "test_theirs.py",
        ]
        if not any(
            one.value == "aipc.pytest_plugin" for one in entry_points(group="pytest11")
        ):  # from the sources, not installed
            command[3:3] = ["-p", "aipc.pytest_plugin"]
        done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True, timeout=60)
    ends = {
        line.split("::")[1].split(" - ")[0]: line.split(" - ")[-1]
        for line in done.stdout.splitlines()
        if line.startswith("ERROR ")
    }
    assert ends.keys() == {"test_leaks_a_descriptor", "test_leaks_a_process", "test_leaks_an_object", "test_unknown[pigeon]"}, (
        done.stdout
    )
    assert "/dev/null" in done.stdout
    assert "sleep 60" in done.stdout
    assert "sysv-shm 0x" in done.stdout
    assert "no scheme 'pigeon' here; there are unix" in done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]
    assert "16 passed" in done.stdout.splitlines()[-1]
