"""When a loop's waits spin, and how long: learnt from how long they last."""

from __future__ import annotations

import os

import pytest

import aipc
from aipc._io import waiter
from aipc._io.loop import backend, spin
from aipc._io.loop.reactor import reactor_of
from aipc._io.loop.spin import LONGEST, SHORTEST, Spin
from aipc._io.polling import Polling
from aipc._io.readiness import Readiness


class Clock:
    """Stands for `perf_counter`, and for another process that takes the processor in sched_yield(2)."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.others_take = 0.0

    def __call__(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.now += self.others_take


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(spin, "perf_counter", clock)
    monkeypatch.setattr(os, "sched_yield", clock.sched_yield)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    return clock


def wait(learnt: Spin, clock: Clock, lasts: float) -> float:
    """A wait of so many seconds: how long it would have spun."""
    deadline = learnt.wait_begins()
    spins = deadline - clock.now if deadline else 0.0
    clock.now += lasts
    learnt.wait_ends()
    return spins


def gave_way(learnt: Spin) -> Spin:
    """A spin that gave way once."""
    learnt.begins()
    learnt.give_way()
    learnt.active = False
    return learnt


def test_a_spin_lasts_a_few_times_as_long_as_waits_do(clock: Clock) -> None:
    learnt = Spin()
    for _ in range(100):
        wait(learnt, clock, 5e-6)
    assert wait(learnt, clock, 5e-6) == pytest.approx(SHORTEST)
    for _ in range(100):
        wait(learnt, clock, 25e-6)
    assert wait(learnt, clock, 25e-6) == pytest.approx(100e-6, rel=0.01)
    for _ in range(100):
        wait(learnt, clock, 150e-6)
    assert wait(learnt, clock, 150e-6) == pytest.approx(LONGEST)


def test_long_waits_park_until_they_are_short_again(clock: Clock) -> None:
    learnt = Spin()
    spun = [wait(learnt, clock, 3_600.0) for _ in range(20)]
    assert spun[0] > 0 == spun[-1]
    spun = [wait(learnt, clock, 60e-6) for _ in range(40)]
    assert spun[0] == 0 < spun[-1]
    assert [seconds > 0 for seconds in spun] == sorted(seconds > 0 for seconds in spun)


def test_one_wait_spins_at_a_time(clock: Clock) -> None:
    learnt = Spin()
    assert learnt.pays()
    learnt.active = True
    assert not learnt.pays()
    assert not learnt.wait_begins()


def test_in_the_middle_of_a_long_message_it_has_patience(clock: Clock) -> None:
    learnt = Spin()
    once = learnt.wait_begins() - clock.now
    assert learnt.wait_begins(3) - clock.now == pytest.approx(3 * once)


def test_in_the_middle_of_a_long_message_it_spins_though_waits_were_longer(clock: Clock) -> None:
    """Two peers that park wait for each other's wake-ups, 0.25 ms each: both would park for ever, though copying takes 0.05."""
    learnt = Spin()
    for _ in range(100):
        wait(learnt, clock, 250e-6)
    assert not learnt.wait_begins()
    assert learnt.wait_begins(3) - clock.now == pytest.approx(3 * LONGEST)
    for _ in range(100):
        wait(learnt, clock, 700e-6)
    assert not learnt.wait_begins(3)


def test_it_parks_while_another_process_wants_the_processor(clock: Clock) -> None:
    """1, 2, 4 and more waits in a row, at most 256; a spin that meets its event halves the number."""
    learnt = Spin()
    gave_way(learnt)
    assert not learnt.gave_enough
    clock.others_take = 1e-3
    for skipped in (1, 2, 4, 8, 16, 32, 64, 128, 256, 256):
        assert wait(learnt, clock, 0)
        gave_way(learnt).in_vain()
        assert not learnt.pays()
        assert [wait(learnt, clock, 0) for _ in range(skipped)] == [0] * skipped
    assert wait(learnt, clock, 0)
    learnt.begins()
    learnt.was_useful(at_once=False)
    gave_way(learnt).in_vain()
    assert [wait(learnt, clock, 0) > 0 for _ in range(129)] == [False] * 128 + [True]


def test_a_peer_that_answers_on_the_same_processor_is_no_other_process(clock: Clock) -> None:
    learnt = Spin()
    clock.others_take = 20e-6
    for _ in range(10):
        assert wait(learnt, clock, 0)
        gave_way(learnt).was_useful(at_once=False)
    assert learnt.pays()
    clock.others_take = 1e-3  # it has answered meanwhile, but that was not what took so long
    assert wait(learnt, clock, 0)
    gave_way(learnt).was_useful(at_once=False)
    assert not learnt.pays()


def test_where_parking_costs_more_a_spin_lasts_longer(clock: Clock) -> None:
    """What is polled: the answer of a peer that idled comes after some 0.4 ms, also if the peer takes this processor meanwhile."""
    learnt = Spin()
    for _ in range(100):
        wait(learnt, clock, 400e-6)
    assert not learnt.wait_begins()
    assert learnt.wait_begins(longest=3 * LONGEST) - clock.now == pytest.approx(3 * LONGEST)
    clock.others_take = 400e-6
    gave_way(learnt).was_useful(at_once=False)
    assert learnt.wait_begins(longest=3 * LONGEST)
    assert Polling.LONGEST_SPIN == 3 * LONGEST


@pytest.mark.parametrize("at_once", [True, False])
def test_a_spin_that_met_its_event_late_parks_the_next_ones(at_once: bool, clock: Clock) -> None:
    """Longer each time, as after a spin in vain: another process had the processor meanwhile."""
    learnt = Spin()
    clock.others_take = 1e-3
    for skipped in (1, 2, 4, 8, 16):
        assert wait(learnt, clock, 0)
        gave_way(learnt).was_useful(at_once=at_once)
        assert [wait(learnt, clock, 0) for _ in range(skipped)] == [0] * skipped


def test_a_spin_in_vain_is_no_reason_to_park(clock: Clock) -> None:
    """How long waits last is."""
    learnt = Spin()
    learnt.in_vain()
    assert learnt.pays()


def test_on_the_only_processor_it_gives_way_first_and_some_times(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks again for the number of processors whenever a spin met nothing."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    learnt = Spin()
    learnt.begins()
    assert not learnt.brief  # no other process wants the processor: the peer may have another one
    clock.others_take = 20e-6
    learnt.begins()
    assert learnt.lost == 0  # so it looks first
    learnt.in_vain()
    learnt.begins()
    assert learnt.lost == pytest.approx(20e-6)
    assert learnt.brief
    assert not learnt.gave_enough
    learnt.give_way()
    learnt.give_way()
    assert learnt.gave_enough
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    learnt.in_vain()
    learnt.begins()
    assert not learnt.lost


def test_a_peer_that_needs_this_processor_gets_it_first(clock: Clock) -> None:
    """Also where there are two: somebody else may keep the other one busy."""
    learnt = Spin()
    clock.others_take = 20e-6
    gave_way(learnt).was_useful(at_once=False)
    learnt.begins()
    assert learnt.lost == pytest.approx(20e-6)
    assert learnt.brief
    learnt.was_useful(at_once=True)
    clock.others_take = 0.0  # it has another processor now
    learnt.begins()
    assert not learnt.brief
    learnt.was_useful(at_once=True)
    clock.others_take = 20e-6
    learnt.begins()
    assert learnt.lost == 0


def test_who_takes_the_processor_for_long_is_no_peer(clock: Clock) -> None:
    """A wait that parks costs less than its slice."""
    learnt = Spin()
    clock.others_take = 20e-6
    gave_way(learnt).was_useful(at_once=False)
    clock.others_take = 3e-3
    learnt.begins()
    learnt.was_useful(at_once=True)
    learnt.begins()
    assert learnt.lost == 0


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
async def test_a_signal_handler_that_raises_ends_the_spin(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it gives way before its first look: otherwise no wait of this loop would spin again."""

    def interrupted() -> None:
        raise ZeroDivisionError("a signal's handler")

    learnt = reactor_of(backend.current()).spin
    one, other = aipc.channel_pair("seqpacket")
    async with one, other:
        learnt._shared = True
        monkeypatch.setattr(os, "sched_yield", interrupted)
        with pytest.raises(ZeroDivisionError):
            await one.receive()
        assert not learnt.active


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
async def test_on_one_processor_a_peer_runs_during_a_wait(
    anyio_backend: object, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes while this process gives way: the wait does not park."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(waiter, "perf_counter", clock)
    monkeypatch.setattr(reactor_of(backend.current()), "spin", Spin())
    one, other = aipc.channel_pair()
    async with one, other:
        given = 0

        def answer() -> None:
            nonlocal given
            given += 1
            clock.now += 20e-6
            if given == 2:
                other.send_nowait(b"answer")

        monkeypatch.setattr(os, "sched_yield", answer)
        parked: list[object] = []
        monkeypatch.setattr(Readiness, "_park", lambda self, reactor, *, front: parked.append(self))
        assert await one.receive() == b"answer"
        assert (given, parked) == (2, [])


def test_quick_looks_count(clock: Clock) -> None:
    learnt = Spin()
    while learnt.pays():
        wait(learnt, clock, 1.0)
    for _ in range(40):
        learnt.was_quick()
    assert learnt.pays()
