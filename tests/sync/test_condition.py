"""Condition: asyncio's semantics between objects, and what the dead leave."""

from __future__ import annotations

import signal

import anyio
import pytest

import aipc
from aipc.testing.expect import in_child, until

from ..peers import python, said

pytestmark = pytest.mark.anyio


def waiting(condition: aipc.Condition) -> int:
    return sum(1 for value in condition._state.values()[3:] if 0 < value < 0x4000)


async def test_notify_wakes_the_oldest(key: str) -> None:
    """On whichever object they wait."""
    with anyio.fail_after(20):
        async with aipc.Condition(key, unlink=True) as one, aipc.Condition(key) as other:
            woken: list[int] = []

            async def wait(number: int) -> None:
                async with (condition := (one, other)[number % 2]):
                    assert await condition.wait() is True
                    assert condition.locked()
                    woken.append(number)

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(wait, number)
                    await until(lambda number=number: waiting(one) == number + 1)
                for n, expected in ((1, [0]), (0, [0]), (2, [0, 1, 2])):
                    async with other:
                        other.notify(n)
                    await until(lambda expected=expected: len(woken) == len(expected))
                    assert sorted(woken) == expected
                async with one:
                    one.notify_all()
            assert sorted(woken) == [*range(6)]
            assert not one.locked()
            assert not any(one._state.values()[3:])


async def test_who_comes_later_has_no_earlier_notification(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Condition(key, unlink=True) as one, aipc.Condition(key) as other:
            woken = []

            async def wait(condition: aipc.Condition, name: str) -> None:
                async with condition:
                    await condition.wait()
                    woken.append(name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, one, "first")
                await until(lambda: waiting(one) == 1)
                async with other:
                    other.notify()
                    with anyio.move_on_after(0.001):
                        await other.wait()  # it lets go of the lock, and takes it again
                    assert other.locked()
                await until(lambda: woken == ["first"])


async def test_wait_for(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Condition(key, unlink=True) as one, aipc.Condition(key) as other:
            stock: list[int] = []
            got = []

            async def take() -> None:
                async with one:
                    got.append(await one.wait_for(lambda: stock and stock.pop()))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
                tasks.start_soon(take)
                for number in (7, 8):
                    async with other:
                        other.notify_all()  # for nothing: they look, and wait on
                    async with other:
                        stock.append(number)
                        other.notify()
                    await until(lambda number=number: number in got)
            assert got == [7, 8]


async def test_what_takes_the_lock(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Condition(key, unlink=True) as one, aipc.Condition(key) as other:
            async with other:
                for call in (one.notify, one.notify_all, one.release):
                    with pytest.raises(RuntimeError, match="does not hold"):
                        call()
                with pytest.raises(RuntimeError):
                    await one.wait()
                with pytest.raises(RuntimeError):
                    await one.wait_for(lambda: True)
                with pytest.raises(anyio.WouldBlock):
                    one.acquire_nowait()
            assert await one.acquire() is True
            one.release()


async def test_more_than_there_are_slots(key: str) -> None:
    with anyio.fail_after(20):
        async with (
            aipc.Condition(key, unlink=True, waiters=2) as one,
            aipc.Condition(key) as other,
            anyio.create_task_group() as tasks,
        ):

            async def wait(condition: aipc.Condition) -> None:
                async with condition:
                    await condition.wait()

            tasks.start_soon(wait, one)
            tasks.start_soon(wait, other)
            await until(lambda: waiting(one) == 2)
            async with one:
                with pytest.raises(aipc.LimitExceeded, match="2 tasks wait already"):
                    await one.wait()
                assert one.locked()
                one.notify_all()
        with pytest.raises(aipc.AddressError, match="at most 160"):
            aipc.Condition(key, waiters=161)


async def test_the_most_waiters_at_once(key: str) -> None:
    with anyio.fail_after(60):
        async with aipc.Condition(key, unlink=True, waiters=160) as condition, anyio.create_task_group() as tasks:

            async def wait() -> None:
                async with condition:
                    await condition.wait()

            for _ in range(160):
                tasks.start_soon(wait)
            await until(lambda: waiting(condition) == 160)
            async with condition:
                condition.notify_all()


WAITS = """
import anyio, sys, aipc
async def main():
    async with aipc.Condition(sys.argv[1]) as condition, condition:
        print("waits", flush=True)
        await condition.wait()
        print("woken", flush=True)
        sys.stdin.readline()
anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
async def test_a_notified_process_that_dies_passes_it_on(loop: str, key: str) -> None:
    """Stopped, notified, killed: the next oldest is woken."""
    with anyio.fail_after(30):
        async with aipc.Condition(key, unlink=True) as condition, anyio.create_task_group() as tasks:
            woken = []

            async def wait() -> None:
                async with condition:
                    await condition.wait()
                    woken.append(1)

            with python(WAITS, key, loop) as victim:
                assert said(victim) == "waits"
                await until(lambda: waiting(condition) == 1)
                tasks.start_soon(wait)
                await until(lambda: waiting(condition) == 2)
                async with condition:
                    victim.send_signal(signal.SIGSTOP)
                    condition.notify()
                assert waiting(condition) == 1
                assert woken == []
                victim.kill()
                await until(lambda: woken == [1])
            assert not any(condition._state.values()[3:])


async def test_a_killed_holder(key: str) -> None:
    """The lock is free, and who waits can be notified."""
    with anyio.fail_after(30):
        async with aipc.Condition(key, unlink=True) as condition:
            with python(WAITS, key, "asyncio") as peer:
                assert said(peer) == "waits"
                await until(lambda: waiting(condition) == 1)
                async with condition:
                    condition.notify()
                assert said(peer) == "woken"
                assert condition.locked()
                peer.kill()
                await condition.acquire()
                condition.release()


async def test_closed_and_removed(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Condition(key, unlink=True) as one, anyio.create_task_group() as tasks:

            async def expect(error: type[Exception], condition: aipc.Condition) -> None:
                await condition.acquire()
                with pytest.raises(error):
                    await condition.wait()

            other = await aipc.Condition(key)
            tasks.start_soon(expect, anyio.ClosedResourceError, other)
            await until(lambda: waiting(one) == 1)
            await other.aclose()
            assert waiting(one) == 0
            third = await aipc.Condition(key)
            async with one:
                pass
            await third.acquire()
            await third.aclose()  # frees the lock
            tasks.start_soon(expect, aipc.ObjectRemoved, one)
            await until(lambda: waiting(one) == 1)
            one.remove()


async def test_of_a_parent(key: str) -> None:
    with anyio.fail_after(20):
        async with aipc.Condition(key, unlink=True) as condition, condition:

            def use() -> None:
                for call in (condition.notify, condition.release, condition.locked):
                    with pytest.raises(aipc.ForkedError):
                        call()

            in_child(use)
            assert condition.locked()
