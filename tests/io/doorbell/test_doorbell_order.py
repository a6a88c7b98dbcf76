"""A waiter's byte is seen by others before its last try is made: between the two stands a barrier that orders both sides.

What goes wrong without it does so within nanoseconds, and on this processor perhaps never: so it is watched that it is there.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys import membarrier
from aipc._sys.doorbell.table import WaiterTable
from aipc.testing.expect import until

from ...subjects import new_name
from ..waiters import close, waiting

pytestmark = pytest.mark.usefixtures("all_features")


@pytest.mark.anyio
@pytest.mark.parametrize("refused", [False, True])
async def test_barrier_between_byte_and_last_try(refused: bool, bells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the kernel refuses it, as a filter may: then an atomic instruction stands in its place."""
    board = WaiterTable()
    seen: list[tuple[str, int]] = []
    make = membarrier._call

    def call(command: int) -> int:
        seen.append(("barrier", waiting(board)))
        return -1 if refused and command == membarrier._GLOBAL_EXPEDITED else make(command)

    monkeypatch.setattr(membarrier, "_call", call)
    url = f"posix-sem:{new_name()}"
    with anyio.fail_after(20):
        async with aipc.open_lock(url, create=True, unlink=True) as one, aipc.open_lock(url) as other:
            handle = other._handle  # type: ignore[attr-defined]
            take = handle.semaphore._try

            def attempt(timeout: int) -> None:
                seen.append(("try", waiting(board)))
                take(timeout)

            handle.semaphore._try = attempt
            one.acquire_nowait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.acquire)
                await until(lambda: handle.polling.waiting)
                one.release()
    close(board)
    first = seen.index(("barrier", 1))
    assert ("try", 1) not in seen[:first]
    assert seen[first + 1] == ("try", 1)


def test_who_looks_at_the_board_takes_part(bells: Path) -> None:
    """The barriers of others reach a process that asked for it."""
    membarrier.registered.cache_clear()
    close(WaiterTable())
    assert membarrier.registered.cache_info().currsize == 1
    assert membarrier.registered()
