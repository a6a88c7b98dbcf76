"""What semaphores of System V and of POSIX promise alike: values, several units at once, zero, counters."""

from __future__ import annotations

from typing import NamedTuple

import anyio
import pytest

import aipc
from aipc.abc import Lock, Semaphore
from aipc.testing.expect import settle

from ...subjects import new_key, new_name

pytestmark = pytest.mark.anyio


class Kind(NamedTuple):
    """A name that nobody else uses, and the option by which a semaphore is a counter."""

    url: str
    counter: str

    def fresh(self, **options: object) -> aipc.Opening[Lock]:
        """A new semaphore, which goes when it is closed."""
        return aipc.open_lock(self.url, exclusive=True, unlink=True, **options)


@pytest.fixture(params=["sysv-sem", "posix-sem"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "sysv-sem":
        return Kind(f"sysv-sem:{new_key()}", "undo=0")
    return Kind(f"posix-sem:{new_name()}", "counter=1")


def counted(lock: Lock) -> Semaphore:
    assert isinstance(lock, Semaphore)
    return lock


async def test_value(kind: Kind) -> None:
    with anyio.fail_after(10):
        async with kind.fresh(value=3) as lock, aipc.open_lock(f"{kind.url}?value=9&create=1") as other:
            one, two = counted(lock), counted(other)
            assert one.value == two.value == 3
            await one.acquire()
            await two.acquire(2)
            assert one.value == two.value == 0
            assert one.locked()
            with pytest.raises(anyio.WouldBlock):
                one.acquire_nowait()
            with pytest.raises(RuntimeError, match=r"holds 2; .*open it with "):
                two.release(3)
            two.release(2)
            assert not one.locked()
            one.acquire_nowait(2)
            one.release(3)
            assert two.value == 3


async def test_default_is_a_lock(kind: Kind) -> None:
    async with kind.fresh() as lock:
        assert counted(lock).value == 1


async def test_several_at_once(kind: Kind) -> None:
    """All of them or none: who waits for three holds no two of them meanwhile."""
    with anyio.fail_after(10):
        async with kind.fresh(value=3) as lock, aipc.open_lock(kind.url) as other:
            one, two = counted(lock), counted(other)
            await one.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(two.acquire, 3)
                await settle()
                assert one.value == 2
                await one.acquire(2)
                one.release(3)
            assert one.value == 0
            with pytest.raises(RuntimeError, match="holds 3"):
                two.release(4)
            assert one.value == 0


async def test_wait_zero(kind: Kind) -> None:
    reached: list[int] = []

    async def wait(semaphore: Semaphore) -> None:
        await semaphore.wait_zero()
        reached.append(semaphore.value)

    with anyio.fail_after(10):
        async with kind.fresh(value=2) as lock, aipc.open_lock(kind.url) as other:
            one, two = counted(lock), counted(other)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, one)
                tasks.start_soon(wait, two)
                await settle()
                await one.acquire()
                await settle()
                assert reached == []
                await two.acquire()
            assert reached == [0, 0]
            await one.wait_zero()
            with anyio.move_on_after(0.01) as scope:
                one.release()
                await one.wait_zero()
            assert scope.cancelled_caught
            assert one.value == 1


async def test_waiters_for_zero_learn_that_it_closes(kind: Kind) -> None:
    async with kind.fresh() as lock, anyio.create_task_group() as tasks:

        async def expect_closed() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await counted(lock).wait_zero()

        with anyio.fail_after(10):
            tasks.start_soon(expect_closed)
            await settle()
            await lock.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        assert counted(lock).value
    with pytest.raises(anyio.ClosedResourceError):
        lock.holder()


async def test_counter(kind: Kind) -> None:
    """Anybody may raise it, and what is taken stays taken."""
    with anyio.fail_after(10):
        async with kind.fresh(value=1) as lock:
            async with aipc.open_lock(f"{kind.url}?{kind.counter}") as one, aipc.open_lock(f"{kind.url}?{kind.counter}") as two:
                producer, consumer = counted(one), counted(two)
                producer.release(4)
                await consumer.acquire(3)
                await producer.acquire()
            assert counted(lock).value == 1


async def test_closing_gives_back_what_is_held(kind: Kind) -> None:
    with anyio.fail_after(10):
        async with kind.fresh(value=5) as lock:
            async with aipc.open_lock(kind.url) as other:
                await counted(other).acquire(2)
                await other.acquire()
                other.release()
                assert counted(lock).value == 3
            assert counted(lock).value == 5
