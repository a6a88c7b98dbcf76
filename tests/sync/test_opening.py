"""How a primitive is named, made, owned and removed."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc._sys.sysv import semaphore as sysv
from aipc.testing.expect import in_child

from .family import values

pytestmark = pytest.mark.anyio

KINDS: dict[str, Any] = {
    "event": aipc.Event,
    "condition": aipc.Condition,
    "barrier": lambda key, **options: aipc.Barrier(key, 2, **options),
    "rwlock": aipc.RWLock,
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_forms_of_a_key(kind: Any, key: str, place: Path) -> None:
    with anyio.fail_after(20):
        async with kind(key, exclusive=True, unlink=True) as one:
            number = int(key, 16)
            for form in (number, str(number), f"sysv-sem:{key}", f"{key}?mode=600", f"sysv-sem:{key}?create=0"):
                async with kind(form, create=False) as other:
                    assert other._state.identifier == one._state.identifier
            assert key in repr(one)
        path = place / "an event"
        crc = zlib.crc32(os.fsencode(path))
        async with kind(path, unlink=True) as one, kind(f"{place}/./an%20event") as two, kind(crc) as three:
            assert one._state.identifier == two._state.identifier == three._state.identifier
            assert not path.exists()
        path.touch()
        async with kind(path, project=3, unlink=True) as one, kind(f"{place}/an%20event?project=3") as two:
            assert one._state.identifier == two._state.identifier
        async with kind("private") as one, kind(None) as two:
            assert one._state.identifier != two._state.identifier


async def test_owner_and_options(kind: Any, key: str) -> None:
    with anyio.fail_after(20):
        with pytest.raises(aipc.ObjectMissing, match=key):
            await kind(key, create=False)
        async with kind(key, mode=0o640, unlink=True):
            with pytest.raises(aipc.ObjectExists, match=key):
                await kind(key, exclusive=True)
            lines = Path("/proc/sysvipc/sem").read_text().splitlines()[1:]
            (mine,) = [line.split() for line in lines if int(line.split()[0]) == int(key, 16)]
            assert mine[2] == "640"
        with pytest.raises(aipc.ObjectMissing):
            await kind(key, create=False)
        for bad in ({"value": 1}, {"mode": -1}, {"unlink": "perhaps"}):
            with pytest.raises(aipc.AddressError):
                kind(key, **bad)
        for bad_key in ("", "flock:/tmp/x", "0", "text"):
            with pytest.raises(aipc.AddressError):
                await kind(bad_key)


async def test_something_else_has_the_key(key: str) -> None:
    """It is left as it is."""
    with anyio.fail_after(20):
        for count, value in ((1, 1), (3, 0), (6, 7), (131, 2)):
            async with aipc.SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[1] + [value] * (count - 1)) as row:
                before = row.values
                for kind in KINDS.values():
                    with pytest.raises(aipc.WrongObject, match=f"{count} semaphores"):
                        await kind(key)
                assert row.values == before
        async with aipc.Event(key, unlink=True):
            for name in ("condition", "barrier", "rwlock"):
                with pytest.raises(aipc.WrongObject):
                    await KINDS[name](key)


async def test_closed_forked_removed_unopened(kind: Any, key: str) -> None:
    with anyio.fail_after(20):
        unopened = kind(key)
        await unopened.aclose()
        with pytest.raises(RuntimeError, match="not open yet"):
            unopened._state  # noqa: B018
        with pytest.raises(RuntimeError, match="not open yet"):
            unopened.remove()
        one = await kind(key)
        other = await kind(key)

        def use() -> None:
            with pytest.raises(aipc.ForkedError):
                one._state.values()
            one._state.close()

        in_child(use)
        one.remove()
        with pytest.raises(aipc.ObjectRemoved, match=key):
            other._state.values()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.aclose()
        await one.aclose()
        await other.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            one._state.values()
        with pytest.raises(anyio.ClosedResourceError):
            one.remove()


async def test_a_creator_killed_before_the_first_values(kind: Any, key: str) -> None:
    """A set of zeros is prepared by whoever opens it next, also without `create`."""
    with anyio.fail_after(20):
        async with kind(key, unlink=True) as one:
            wanted = values(key)
        sysv.SemaphoreSet(int(key, 16), len(wanted), sysv.CREATE | sysv.EXCLUSIVE | 0o600)
        async with kind(key, create=False, unlink=True) as one:
            assert values(key) == wanted
            assert one._state.values() == wanted


@pytest.mark.costly
def test_created_by_many_at_once(key: str) -> None:
    """64 processes make one barrier, and meet at it."""

    async def work() -> None:
        async with asyncio.timeout(30), aipc.Barrier(key, 64) as barrier:
            await barrier.wait()

    started, start = os.pipe()
    children = []
    for _ in range(64):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(40)
                os.close(start)
                os.read(started, 1)  # until the parent closes the other end
                asyncio.run(work())
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    os.close(started)
    os.close(start)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 64
    assert values(key)[2:] == [0, 0]
    sysv.SemaphoreSet(int(key, 16), 0, 0).remove()
