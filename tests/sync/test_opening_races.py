"""Opening a set that somebody removes at that very moment, or that is too large for the kernel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

import aipc

from ..peers import isolated, python, said
from ..subjects import times

pytestmark = pytest.mark.anyio

REMOVE = """
import ctypes, os, sys
libc, key, count = ctypes.CDLL(None), int(sys.argv[1], 16), int(sys.argv[2])
print("begins", flush=True)
while True:
    libc.semctl(libc.semget(key, {count}, 0o1600), 0, 0)  # IPC_CREAT, IPC_RMID
"""

OPENERS: dict[str, Callable[[str], Any]] = {
    "event": aipc.Event,
    "barrier": lambda key: aipc.Barrier(key, 2),
    "semaphore": lambda key: aipc.open_lock(f"sysv-sem:{key}", create=True),
    "set": lambda key: aipc.SysVSemaphoreSet(key, create=True, count=3),
}


@pytest.mark.parametrize("count", ["0", "count"])
@pytest.mark.parametrize("name", OPENERS)
async def test_removed_again_and_again(name: str, count: str, key: str) -> None:
    """By a process that only removes, or makes one that nobody prepares and removes it: it is never missing.

    What was opened may be removed a moment later, also before it is known to be what it should be.
    """
    opener = OPENERS[name]
    size = {"event": "3", "barrier": "4", "semaphore": "1", "set": "3"}[name]
    with anyio.fail_after(60):
        with python(REMOVE.replace("{count}", count), key, size) as remover:
            assert said(remover) == "begins"
            for _ in range(times(200, 1_000)):
                with suppress(aipc.ObjectRemoved):
                    await (await opener(key)).aclose()
        with suppress(aipc.ObjectMissing):
            aipc.remove_object("sysv-sem", key)  # ours, or one that the other process was about to remove


LIMITED = """
import anyio, aipc
with open("/proc/sys/kernel/sem", "w") as limits:
    limits.write("MOST 32000 STEPS 32000")
async def main():
    for key in ("private", "0x4d2"):
        try:
            await OPENER
        except aipc.LimitExceeded as error:
            print(error)
    assert not open("/proc/sysvipc/sem").read().splitlines()[1:]
anyio.run(main)
"""


@pytest.mark.parametrize(
    ("most", "steps", "opener", "limit"),
    [
        (10, 500, "aipc.Condition(key)", "SEMMSL"),
        (10, 500, "aipc.SysVSemaphoreSet(key, exclusive=True, count=11)", "SEMMSL"),
        (10, 500, "aipc.open_lock(f'sysv-sem:{key}', exclusive=True, count=11)", "SEMMSL"),
        (32_000, 10, "aipc.Condition(key)", "takes: 10 (SEMOPM"),
    ],
)
def test_more_than_the_kernel_takes(most: int, steps: int, opener: str, limit: str) -> None:
    """A set that is too large, or can't be prepared in one step: the error says which limit it is, and nothing is left behind."""
    code = LIMITED.replace("MOST", str(most)).replace("STEPS", str(steps)).replace("OPENER", opener)
    for key, line in zip(("private", "0x4d2"), isolated(code).splitlines(), strict=True):
        assert f"sysv-sem:{key}: more " in line
        assert limit in line
