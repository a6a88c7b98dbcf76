"""Locks where /proc is not mounted, as in a bare chroot(2)."""

from __future__ import annotations

import pytest

from ..peers import isolated

BARE = """
import subprocess, anyio, aipc
async def main():
    subprocess.run(["mount", "-t", "tmpfs", "none", "/dev/shm"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
    async with aipc.open_lock("posix-sem:/x?create=1"):
        try:
            await use(OPENER)
        except aipc.AipcError as error:
            print(type(error).__name__, error)
async def use(opening):
    async with opening as it, anyio.create_task_group() as tasks:
        await take(it)
        tasks.start_soon(take, it)
        await anyio.sleep(0.01)
        await give(it)
    print("waited")
async def take(it):
    await (it.operate([(0, -1)]) if hasattr(it, "operate") else it.acquire())
async def give(it):
    if hasattr(it, "operate"):
        await it.operate([(0, 1)])
    else:
        it.release()
anyio.run(main)
"""


@pytest.mark.parametrize(
    "opener",
    [
        "aipc.open_lock('sysv-sem:private')",
        "aipc.SysVSemaphoreSet('private')",
        "aipc.Condition('private')",
        "aipc.open_lock('posix-sem:/x')",
    ],
)
def test_works(opener: str) -> None:
    assert isolated(BARE.replace("OPENER", opener)) == "waited\n"


def test_robust_takes_it() -> None:
    said = isolated(BARE.replace("OPENER", "aipc.open_lock('posix-sem:/x?robust=1')"))
    assert said.startswith("UnsupportedOperation posix-sem:/x?robust=1: robust needs /proc to tell processes apart")
