"""Event: asyncio's semantics between objects, loops and C."""

from __future__ import annotations

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ..peers import compile_peer, process, python, said, tell

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("primitives", tmp_path_factory))


async def test_set_and_clear(key: str) -> None:
    with anyio.fail_after(10):
        async with aipc.Event(key, unlink=True) as one, aipc.Event(key) as other:
            assert (one.is_set(), other.is_set()) == (False, False)
            one.set()
            one.set()
            assert other.is_set()
            assert await other.wait() is True
            other.clear()
            other.clear()
            assert not one.is_set()


async def test_a_pulse_wakes_all_who_wait(key: str) -> None:
    """`clear` right after `set`: who waited goes on, and who comes now waits."""
    with anyio.fail_after(10):
        async with aipc.Event(key, unlink=True) as one, aipc.Event(key) as other:
            woken = 0

            async def wait(event: aipc.Event) -> None:
                nonlocal woken
                await event.wait()
                woken += 1

            for _ in range(3):
                async with anyio.create_task_group() as tasks:
                    for event in (one, other, one):
                        tasks.start_soon(wait, event)
                    await settle()
                    one.set()
                    one.clear()
            assert woken == 9
            with anyio.move_on_after(0.03) as scope:
                await other.wait()
            assert scope.cancelled_caught


@pytest.mark.costly
async def test_the_count_of_pulses_begins_anew(key: str) -> None:
    """After 32,767 times it is 0 again, and a wait over that is not missed."""
    with anyio.fail_after(30):
        async with aipc.Event(key, unlink=True) as event:
            for _ in range(32_767):
                event.set()
                event.clear()
            assert event._state.values()[2] == 32_767
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(event.wait)
                await settle()
                event.set()
                event.clear()
            assert event._state.values()[1:] == [1, 0]


WAITING = """
import anyio, sys, aipc
async def main():
    async with aipc.Event(sys.argv[1]) as event:
        print("waits", flush=True)
        await event.wait()
        print("woken", flush=True)
anyio.run(main, backend=sys.argv[2], backend_options={"use_uvloop": True} if sys.argv[3:] else {})
"""


async def test_other_loops(key: str) -> None:
    with anyio.fail_after(30):
        async with aipc.Event(key, unlink=True) as event:
            with (
                python(WAITING, key, "asyncio") as a,
                python(WAITING, key, "trio") as b,
                python(WAITING, key, "asyncio", "uv") as c,
            ):
                for peer in (a, b, c):
                    assert said(peer) == "waits"
                event.set()
                for peer in (a, b, c):
                    assert said(peer) == "woken"


async def test_with_c(c_peer: str, key: str) -> None:
    """C waits in semop(2), and sets."""
    with anyio.fail_after(10):
        async with aipc.Event(key, unlink=True) as event:
            with process(c_peer, key, "event-wait") as peer:
                async with aipc.SysVSemaphoreSet(key) as row:
                    while row.waiting(1).zero != 1:
                        await settle()
                event.set()
                event.clear()
                assert said(peer) == "done"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(event.wait)
                await settle()
                with process(c_peer, key, "event-set") as peer:
                    assert said(peer) == "done"
            assert event.is_set()


async def test_rwlock_with_c(c_peer: str, key: str) -> None:
    with anyio.fail_after(10):
        async with aipc.RWLock(key, unlink=True) as lock:
            with process(c_peer, key, "read") as peer:
                assert said(peer) == "done"
                lock.reader.acquire_nowait()
                lock.reader.release()
                with pytest.raises(anyio.WouldBlock):
                    lock.writer.acquire_nowait()
                peer.kill()
                async with lock.writer:
                    pass
            with process(c_peer, key, "write") as peer:
                assert said(peer) == "done"
                with pytest.raises(anyio.WouldBlock):
                    lock.reader.acquire_nowait()
                tell(peer, "")
                peer.kill()
                async with lock.reader:
                    pass


async def test_condition_with_c(c_peer: str, key: str) -> None:
    with anyio.fail_after(10):
        async with aipc.Condition(key, unlink=True) as condition:
            with process(c_peer, key, "lock") as peer:
                assert said(peer) == "done"
                assert condition.locked()
                peer.kill()
                async with condition:
                    pass
