"""When an object rests in favour of others, by a clock of the test's own; and that a free lock is never withheld."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

import aipc
from aipc._sys import probes
from aipc.abc import Lock
from aipc.locks import base
from aipc.testing.expect import settle, until

from ..peers import process, run, said
from ..subjects import LOCKS
from .c_programs import giving_back, taking

pytestmark = pytest.mark.anyio

SOON = 1e-3


class Clock:
    """What the locks take for the time; `rests` are the moments at which one rested, in which `during` happens."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rests: list[float] = []
        self.during: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.rests.append(self.now)
        await self.during()
        self.now += seconds

    async def hold(self, lock: Lock, times: int, gap: float = 0.0) -> None:
        for _ in range(times):
            async with lock:
                self.now += SOON
                await anyio.lowlevel.checkpoint()
            self.now += gap


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(base, "monotonic", clock.monotonic)
    monkeypatch.setattr(base, "anyio", SimpleNamespace(sleep=clock.sleep, WouldBlock=anyio.WouldBlock))
    return clock


@pytest.fixture
def _no_board(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AIPC_DISABLE", "doorbell")
    probes.enabled.cache_clear()
    yield
    probes.enabled.cache_clear()


@pytest.mark.usefixtures("all_features")
@pytest.mark.parametrize("mechanism", LOCKS)
async def test_a_free_lock_is_not_withheld(mechanism: str, place: Path, clock: Clock) -> None:
    """Nobody waits, or nobody does any more."""
    async with LOCKS[mechanism](place).open_two() as (lock, other):
        await clock.hold(lock, 2_000)
        async with lock:
            with anyio.move_on_after(0.001):
                await other.acquire()
        await settle()
        await clock.hold(lock, 2_000)
    assert clock.rests == []


@pytest.mark.usefixtures("all_features")
@pytest.mark.parametrize("mechanism", LOCKS)
async def test_somebody_waits(mechanism: str, place: Path, clock: Clock) -> None:
    """It rests at the end of a turn, and the other has it meanwhile; then it goes on."""
    async with LOCKS[mechanism](place).open_two() as (lock, other), anyio.create_task_group() as tasks:
        await clock.hold(lock, 2_000)  # alone so far
        had = anyio.Event()
        clock.during = had.wait

        async def want() -> None:
            async with other:
                had.set()

        await lock.acquire()
        tasks.start_soon(want)
        await settle()
        lock.release()
        with anyio.fail_after(30):
            await clock.hold(lock, round(2 * base.TURN / SOON))
        assert had.is_set()
        assert len(clock.rests) <= 1  # none, if the other was quick enough for a gap


@pytest.mark.usefixtures("all_features")
@pytest.mark.parametrize("mechanism", [name for name in LOCKS if name != "redis"])
async def test_who_was_woken_in_vain_still_waits(mechanism: str, place: Path) -> None:
    """Also when a second call came before it had its turn."""
    async with LOCKS[mechanism](place).open_two() as (lock, other), anyio.create_task_group() as tasks:
        await lock.acquire()
        tasks.start_soon(other.acquire)
        await settle()
        for _ in range(100):
            for _ in range(2):
                lock.release()
                lock.acquire_nowait()
            await anyio.lowlevel.checkpoint()
            assert lock._handle.polling.others_wait()  # type: ignore[attr-defined]
        tasks.cancel_scope.cancel()


@pytest.mark.usefixtures("_no_board")
async def test_rests_become_rare_when_nobody_takes_it(place: Path, clock: Clock) -> None:
    """Without a board it rests to find out. Turns double, up to the longest; a gap needs no rest."""
    async with aipc.open_lock(f"flock:{place}/lock") as lock:
        await clock.hold(lock, 10_000)
        gaps = [later - sooner for sooner, later in pairwise(clock.rests)]
        assert gaps[:3] == pytest.approx(
            [2 * base.TURN + base.REST, 4 * base.TURN + base.REST, 8 * base.TURN + base.REST], abs=5e-3
        )
        assert gaps[-1] == pytest.approx(base.LONGEST_TURN + base.REST, abs=5e-3)
        clock.rests.clear()
        await clock.hold(lock, 10_000, gap=0.3 * SOON)
        assert len(clock.rests) <= 1


@pytest.mark.usefixtures("_no_board")
async def test_turns_are_short_again_when_somebody_takes_it(place: Path, clock: Clock) -> None:
    """Whoever comes after a long time alone does not wait for long turns."""
    url = f"flock:{place}/lock"
    async with aipc.open_lock(url) as lock, aipc.open_lock(url) as other, anyio.create_task_group() as tasks:
        await clock.hold(lock, 5_000)

        async def let_go() -> None:
            await settle()
            other.release()

        async def take() -> None:
            other.acquire_nowait()
            tasks.start_soon(let_go)
            clock.during = anyio.lowlevel.checkpoint

        clock.rests.clear()
        clock.during = take
        while not clock.rests:
            await clock.hold(lock, 1)
        await clock.hold(lock, 100)
        assert clock.rests[1] - clock.rests[0] == pytest.approx(base.TURN + base.REST, abs=5e-3)


@pytest.mark.usefixtures("_no_board")
async def test_cancelled_or_closed_while_resting(place: Path, clock: Clock) -> None:
    """Nothing is held; a closed one says so."""
    url = f"flock:{place}/lock"
    async with aipc.open_lock(url) as lock, aipc.open_lock(url) as other:
        clock.during = anyio.sleep_forever
        async with lock:
            clock.now += 2 * base.TURN
        with anyio.move_on_after(0.001) as scope:
            await lock.acquire()
        assert scope.cancelled_caught
        assert clock.rests
        other.acquire_nowait()
        other.release()
        clock.during = lock.aclose
        with pytest.raises(anyio.ClosedResourceError):
            await lock.acquire()


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.usefixtures("all_features")
@pytest.mark.parametrize("mechanism", ["flock", "fcntl", "fcntl-process", "sysv-sem", "posix-sem"])
async def test_a_c_program_sleeps(mechanism: str, place: Path, clock: Clock, c_peers: dict[str, str]) -> None:
    """In flock(2), fcntl(2), semop(2) or sem_wait(3): it has the lock at the end of a turn, at the latest."""
    subject = LOCKS[mechanism](place)
    with anyio.fail_after(30):
        async with subject.open_two() as (lock, _):
            await lock.acquire()
            with process(*taking(subject.url, c_peers)) as program:
                await until(lambda: sleeps(program.pid))
                clock.now += 2 * base.TURN

                async def ended() -> None:
                    await until(lambda: program.poll() is not None)

                clock.during = ended
                assert program.stdin is not None
                program.stdin.close()
                lock.release()
                if mechanism == "posix-sem":
                    await anyio.to_thread.run_sync(said, program)
                    run(*giving_back(subject.url, c_peers))
                await lock.acquire()
                assert await anyio.to_thread.run_sync(program.wait) == 0
                assert clock.rests or mechanism == "sysv-sem"  # there the kernel itself hands it over
                lock.release()
