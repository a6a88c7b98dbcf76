"""Pools of workers: who is replaced, when, and what becomes of requests."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.processes.backoff import Backoff
from aipc.testing.expect import settle, until

from ...subjects import times
from .. import functions
from ..conftest import children
from . import pool_functions

pytestmark = pytest.mark.anyio


@pytest.mark.costly
async def test_requests_are_answered_by_whoever_is_free() -> None:
    answered: dict[bytes, set[bytes]] = {}
    async with aipc.spawn_pool(3, functions.answer) as pool:
        assert len(pool.workers) <= 3

        async def ask(number: int) -> None:
            pid, _, text = (await pool.request(b"slow %d" % number)).partition(b" ")
            answered.setdefault(pid, set()).add(text)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(ask, number)
        assert {int(pid) for pid in answered} == {worker.pid for worker in pool.workers}
    assert set().union(*answered.values()) == {b"slow %d" % number for number in range(30)}
    assert children() == []


@pytest.mark.costly
async def test_who_waits_longest_is_next(tmp_path: Path) -> None:
    gate, order = tmp_path / "gate", []

    async def ask(number: int) -> None:
        order.append(int(await pool.request(b"%d" % number)))

    async with aipc.spawn_pool(1, pool_functions.wait_for_file, str(gate)) as pool:
        await pool.wait_ready()
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(ask, number)
                    await settle()
                gate.touch()
    assert order == list(range(20))


@pytest.mark.costly
async def test_a_killed_worker_is_replaced() -> None:
    async with aipc.spawn_pool(2, functions.answer) as pool:
        await until(lambda: len(pool.workers) == 2)
        killed, other = pool.workers
        os.kill(killed.pid, signal.SIGKILL)
        await until(lambda: pool.restarts == 1 and len(pool.workers) == 2)
        assert other in pool.workers
        assert killed not in pool.workers
        with anyio.fail_after(30):
            assert await pool.request(b"x")


@pytest.mark.costly
async def test_its_request_fails() -> None:
    async with aipc.spawn_pool(1, functions.answer) as pool:
        with anyio.fail_after(30), pytest.raises(aipc.WorkerDied, match="gone before it answered"):
            await pool.request(b"die")
        with anyio.fail_after(30):
            assert (await pool.request(b"next")).endswith(b" next")


@pytest.mark.costly
@pytest.mark.parametrize("workers", [1, 2])
async def test_or_is_retried_as_asked(workers: int, tmp_path: Path) -> None:
    async with aipc.spawn_pool(workers, functions.die_once, str(tmp_path / "mark")) as pool:
        with anyio.fail_after(30):
            assert await pool.request(b"do it", retries=1) == b"do it"
    async with aipc.spawn_pool(workers, functions.answer, backoff=0.001) as pool:
        with anyio.fail_after(60), pytest.raises(aipc.WorkerDied):
            await pool.request(b"die", retries=2)
        await until(lambda: pool.restarts == 3)


@pytest.mark.costly
async def test_killed_under_load() -> None:
    """Each request is answered or fails; none hangs. Those that may be retried are all answered."""
    failed = answered = 0
    kills = times(2, 5)
    requests = 400 * kills
    async with aipc.spawn_pool(2, functions.answer, backoff=0.001) as pool:

        async def ask(number: int) -> None:
            nonlocal failed, answered
            try:
                answer = await pool.request(b"%d" % number, retries=10 * (number % 2))
            except aipc.WorkerDied:
                assert number % 2 == 0
                failed += 1
            else:
                assert answer.split()[1] == b"%d" % number
                answered += 1

        async def ask_many(first: int) -> None:
            for number in range(first, first + 400):
                await ask(number)

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                for first in range(0, requests, 400):
                    tasks.start_soon(ask_many, first)
                for _ in range(kills):
                    before = answered
                    await until(lambda before=before: answered >= min(before + 100, requests - 100))
                    for worker in pool.workers:
                        os.kill(worker.pid, signal.SIGKILL)
        assert failed + answered == requests
        assert failed <= 2 * kills
        assert pool.restarts >= kills


@pytest.mark.costly
async def test_a_closed_channel_is_as_good_as_dead() -> None:
    async with aipc.spawn_pool(1, functions.answer, grace=0.01) as pool:
        with anyio.fail_after(30):
            with pytest.raises(aipc.WorkerDied):
                await pool.request(b"close")
            assert await pool.request(b"x")


async def test_a_cancelled_requests_answer_goes_to_nobody() -> None:
    async with aipc.spawn_pool(1, functions.answer) as pool:
        await pool.request(b"x")
        for number in range(10):
            with anyio.move_on_after(0.01 * (number % 3)):
                await pool.request(b"slow")
            with anyio.fail_after(30):
                assert (await pool.request(b"%d" % number)).split()[1] == b"%d" % number
        assert pool.restarts == 0


async def test_a_refused_message_occupies_nobody() -> None:
    async with aipc.spawn_pool(1, functions.answer) as pool:
        with pytest.raises(aipc.MessageTooLarge):
            await pool.request(bytes(17 << 20))
        with anyio.fail_after(30):
            await pool.request(b"x")


@pytest.mark.costly
@pytest.mark.parametrize(
    ("restart", "status", "again"),
    [
        ("always", "good", True),
        ("always", "bad", True),
        ("on-failure", "good", False),
        ("on-failure", "bad", True),
        ("never", "good", False),
        ("never", "bad", False),
    ],
)
async def test_policies(restart: str, status: str, again: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "mark"
    with caplog.at_level(logging.CRITICAL if status == "good" else logging.ERROR, "aipc"):
        async with aipc.spawn_pool(1, functions.end, str(mark), status, restart=restart, backoff=0.001) as pool:
            if again:
                await until(lambda: pool.restarts >= 2)
            else:
                with anyio.fail_after(30):
                    await pool.wait()
                    with pytest.raises(aipc.WorkerDied, match="none will be started"):
                        await pool.request(b"x")
                assert pool.restarts == 0
                assert pool.workers == []
    assert len(mark.read_text()) >= 2 if again else mark.read_text() == "x"
    assert ("as asked" in caplog.text) == (status == "bad")


def test_pauses_grow_up_to_a_limit_and_shrink_again() -> None:
    pauses = Backoff(0.1, 1.0, 10.0)
    assert [pauses.after(0) for _ in range(7)] == [0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [pauses.after(10.0), pauses.after(9.9), pauses.after(60), pauses.after(0)] == [0, 0.1, 0, 0.1]
    assert [pauses.after(0) for _ in range(2_000)][-1] == 1.0


async def test_leaving_wakes_who_waits() -> None:
    seen: list[str] = []

    async def ask() -> None:
        try:
            await pool.request(b"slow")
        except (aipc.WorkerDied, anyio.ClosedResourceError) as error:
            seen.append(type(error).__name__)
        else:
            seen.append("answered")

    async with anyio.create_task_group() as tasks, aipc.spawn_pool(1, functions.answer) as pool:
        await pool.request(b"x")
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await anyio.sleep(0.01)
    assert sorted(seen) == ["ClosedResourceError", "answered"]


@pytest.mark.parametrize("how", [LookupError, SystemExit, "cancelled"])
async def test_left_in_a_hurry(how: Any) -> None:
    with anyio.CancelScope() as scope:
        with suppress(LookupError, SystemExit):  # by itself, and not in a group
            async with aipc.spawn_pool(1, functions.answer) as pool:
                await pool.request(b"x")
                if how != "cancelled":
                    raise how
                scope.cancel()
                await anyio.sleep_forever()
    assert children() == []


@pytest.mark.costly
async def test_leaving_during_a_pause(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with aipc.spawn_pool(1, functions.end, str(tmp_path / "mark"), "bad", backoff=3_600, backoff_limit=3_600) as pool:
            await until(lambda: pool.restarts == 1 and not pool.workers)


async def test_what_cannot_be_is_refused_at_once() -> None:
    for options, error in (
        ({"restart": "sometimes"}, aipc.AddressError),
        ({"loop": "twisted"}, aipc.AddressError),
        ({"channel": "dgram"}, aipc.AddressError),
        ({"numbered": True}, TypeError),
        ({"n": 0}, aipc.AddressError),
        ({"function": lambda: 1}, TypeError),
    ):
        chosen = {"n": 1, "function": functions.answer, **options}
        with pytest.raises(error):
            async with aipc.spawn_pool(**chosen):
                pass


@pytest.mark.costly
async def test_renewed_while_requests_go_on() -> None:
    """Every request is answered, by an old worker or by a new one."""
    welcomed: list[int] = []
    renewals = times(1, 2)

    async def welcome(worker: aipc.Worker) -> None:
        await worker.channel.send(b"hello")
        assert (await worker.channel.receive()).endswith(b"hello")
        welcomed.append(worker.pid)

    async with aipc.spawn_pool(2, functions.answer, welcome=welcome) as pool:
        await pool.wait_ready()
        renewed = False

        async def ask() -> None:
            while not renewed:
                await pool.request(b"slow")

        with anyio.fail_after(60):
            for _ in range(renewals):
                renewed = False
                old = {worker.pid for worker in pool.workers}
                assert len(old) == 2
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(ask)
                    await pool.renew()
                    renewed = True
                assert len(pool.workers) == 2
                assert not old & {worker.pid for worker in pool.workers}
        assert pool.restarts == 0
        assert len(children()) == 2
    assert len(set(welcomed)) == 2 + 2 * renewals


@pytest.mark.costly
async def test_renewing_what_has_ended() -> None:
    async with aipc.spawn_pool(1, functions.loop_name, restart="never") as pool:
        with anyio.fail_after(30):
            await pool.wait()
            with pytest.raises(aipc.WorkerDied):
                await pool.wait_ready()
            await pool.renew()


@pytest.mark.parametrize("welcomed", [False, True])
async def test_left_while_workers_start(welcomed: bool) -> None:
    """Also those that are no part of the pool yet are told to end."""
    greeted = anyio.Event()

    async def welcome(worker: aipc.Worker) -> None:
        greeted.set()
        await worker.channel.send(b"hello")
        await worker.channel.receive()

    with anyio.fail_after(30):
        async with aipc.spawn_pool(2, functions.answer, welcome=welcome if welcomed else None, grace=3_600):
            if welcomed:
                await greeted.wait()
    assert children() == []
