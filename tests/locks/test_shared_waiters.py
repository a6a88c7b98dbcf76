"""Waiters in other processes, which pause for an hour between two looks: a release reaches all who can have the lock by it."""

from __future__ import annotations

from pathlib import Path

import pytest

import aipc

from ..io.waiters import WAITER, loop_of
from ..peers import python, said

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features")]

SCHEMES = pytest.mark.parametrize("scheme", ["flock:{}", "fcntl:{}", "fcntl:{}?owner=process"])
Loop = tuple[str, dict[str, bool]]
STAY = "__import__('anyio').sleep_forever()"  # closing the lock wakes others, too
WORK = "__import__('time').sleep(60)"  # its loop does not turn meanwhile


def waiter(loop: Loop, url: str, shared: bool, *awaited: str) -> tuple[str, ...]:
    """A process that opens the lock and awaits each of these calls, in turn."""
    return WAITER, loop_of(loop), f"aipc.open_lock({url!r}, shared={shared})", *awaited


@SCHEMES
@pytest.mark.parametrize("then", [STAY, WORK], ids=["stays", "works"])
async def test_an_exclusive_release_wakes_all_who_share(scheme: str, then: str, place: Path, anyio_backend: Loop) -> None:
    """The release wakes one of them, and each wakes the next when it has the lock, whatever it does then."""
    url = scheme.format(place / "lock")
    sharer = waiter(anyio_backend, url, True, "it.acquire()", then)
    async with aipc.open_lock(url) as ours:
        await ours.acquire()
        with python(*sharer) as one, python(*sharer) as two, python(*sharer) as three, python(*sharer) as four:
            for peer in (one, two, three, four):
                assert said(peer) == "parked"
            ours.release()
            assert [said(peer) for peer in (one, two, three, four)] == ["None"] * 4


@SCHEMES
@pytest.mark.parametrize("place_of_it", [0, 1, 2])
async def test_one_of_them_wants_it_alone(scheme: str, place_of_it: int, place: Path, anyio_backend: Loop) -> None:
    """It lets go as soon as it has had the lock; woken in vain, it wakes the next one all the same."""
    url = scheme.format(place / "lock")
    sharer = waiter(anyio_backend, url, True, "it.acquire()", STAY)
    commands = [sharer, sharer]
    commands.insert(place_of_it, waiter(anyio_backend, url, False, "it.__aenter__()", "it.__aexit__(None, None, None)", STAY))
    async with aipc.open_lock(url) as ours:
        await ours.acquire()
        with python(*commands[0]) as one, python(*commands[1]) as two, python(*commands[2]) as three:
            peers = [one, two, three]
            for peer in peers:
                assert said(peer) == "parked"
            ours.release()
            del peers[place_of_it]
            assert [said(peer) for peer in peers] == ["None"] * 2


@SCHEMES
async def test_a_release_of_the_last_who_shares_it(scheme: str, place: Path, anyio_backend: Loop) -> None:
    """Who wants it exclusively is woken, though an earlier release had woken it in vain."""
    url = scheme.format(place / "lock")
    async with aipc.open_lock(url, shared=True) as one, aipc.open_lock(url, shared=True) as other:
        await one.acquire()
        await other.acquire()
        with python(*waiter(anyio_backend, url, False, "it.acquire()")) as alone:
            assert said(alone) == "parked"
            one.release()
            other.release()
            assert said(alone) == "None"


@pytest.mark.parametrize("first", ["upgrades", "alone"])
@pytest.mark.parametrize("scheme", ["fcntl:{}", "fcntl:{}?owner=process"])
async def test_a_release_reaches_the_one_that_can_have_it(first: str, scheme: str, place: Path, anyio_backend: Loop) -> None:
    """Of two who wait: the one that shares the lock and upgrades can have it, the other one when that has released it."""
    url = scheme.format(place / "lock")
    upgrades = waiter(anyio_backend, url, True, "it.acquire()", "it.upgrade()", "it.__aexit__(None, None, None)")
    alone = waiter(anyio_backend, url, False, "it.acquire()")
    async with aipc.open_lock(url, shared=True) as ours:
        await ours.acquire()
        with (
            python(*(upgrades if first == "upgrades" else alone)) as one,
            python(*(alone if first == "upgrades" else upgrades)) as other,
        ):
            upgrading, waiting = (one, other) if first == "upgrades" else (other, one)
            assert said(upgrading) == "None"  # it has it, shared
            assert said(upgrading) == said(waiting) == "parked"
            ours.release()
            assert said(upgrading) == said(upgrading) == said(waiting) == "None"
