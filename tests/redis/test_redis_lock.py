"""Locks on a server: leases, tokens, turns, units; holders and waiters that die, stop, or lose the server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc.redis.lock import RemoteLock
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle, until

from .. import subjects
from .peers.servers import RedisServer, shared_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[RedisServer]:
    yield shared_server()
    shared_server().command("FLUSHALL")


@asynccontextmanager
async def opened(server: RedisServer, **options: Any) -> AsyncIterator[RemoteLock]:
    with anyio.fail_after(subjects.times(60, 1_200)):
        async with aipc.open_lock(server.url("lock"), **options) as lock:
            yield cast(RemoteLock, lock)


def process(role: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.redis.peers.holders", role, url], stdout=subprocess.PIPE, text=True)


def line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().strip()


def end(started: subprocess.Popen[str]) -> None:
    started.kill()
    started.communicate()


async def test_tokens_only_grow(server: RedisServer) -> None:
    async with opened(server) as one, opened(server) as other:
        tokens = []
        for lock in (one, other, one):
            async with lock:
                tokens.append(lock.token)
        assert tokens == sorted(set(tokens))
        with pytest.raises(RuntimeError, match="no token"):
            _ = one.token


async def test_a_waiter_learns_with_its_wake_up_what_it_holds(redis: RedisServer) -> None:
    def asked() -> int:
        stats = redis.command("INFO", "commandstats").decode()
        return int((stats.partition("cmdstat_hget:calls=")[2] or "0,").partition(",")[0])  # once for each request

    async with opened(redis) as one, opened(redis) as other, anyio.create_task_group() as tasks:
        before = 0

        async def wait() -> None:
            async with other:
                assert asked() == before
                assert other.token > first
                holder = one.holder()
                assert holder == os.getpid()

        async with one:
            first = one.token
            tasks.start_soon(wait)
            await until(lambda: redis.command("ZCARD", "{lock}:queue") == b":1\r\n")
            await settle()
            before = asked()


async def test_news_that_are_old_are_not_believed(redis: RedisServer) -> None:
    async with opened(redis, ttl=2) as lock:
        now = time.monotonic()
        for seconds, believed in ((0.0, True), (0.9, True), (1.1, False), (5.0, False)):
            grant = lock._handed_over("x", 1, "7:1000000", now - seconds, 1_000_000)
            assert (grant is not None) == believed
            if grant is not None:
                grant.end()
                assert grant.token == 7


async def test_the_holder_has_a_host(server: RedisServer) -> None:
    async with opened(server) as lock:
        assert lock.holder() is None
        async with lock:
            holder = lock.holder()
            assert holder is not None
            assert (holder, holder.host) == (os.getpid(), socket.gethostname())


async def test_waiters_have_their_turn_in_order(server: RedisServer) -> None:
    order: list[int] = []
    async with opened(server) as lock, opened(server) as other, anyio.create_task_group() as tasks:

        async def enter(number: int) -> None:
            async with (lock, other)[number % 2]:
                order.append(number)

        async with lock:
            for number in range(6):
                tasks.start_soon(enter, number)
                await until(lambda waiting=number + 1: server.command("ZCARD", "{lock}:queue") == b":%d\r\n" % waiting)
    assert order == [0, 1, 2, 3, 4, 5]


async def test_a_semaphore_has_units(server: RedisServer) -> None:
    async with opened(server, value=3) as one, opened(server, value=3) as other:
        await one.acquire(2)
        assert other.value == 1
        other.acquire_nowait()
        with pytest.raises(anyio.WouldBlock):
            other.acquire_nowait()
        one.release()
        await other.acquire()
        assert other.value == 0
        other.release(2)
        one.release()
        with pytest.raises(RuntimeError):
            one.release()
        assert one.value == 3
        with pytest.raises(ValueError, match="3 units"):
            await one.acquire(4)


async def test_blocks_of_a_semaphore_end_in_any_order(server: RedisServer) -> None:
    async with opened(server, value=2) as lock, anyio.create_task_group() as tasks:
        first = anyio.Event()

        async def stay() -> None:
            async with lock:
                await first.wait()

        tasks.start_soon(stay)
        await until(lambda: lock.value == 1)
        async with lock:
            first.set()
            await until(lambda: lock.value == 1)
        assert lock.value == 2


async def test_a_lease_is_renewed_while_its_block_runs(server: RedisServer) -> None:
    async with opened(server, ttl=0.5) as lock, opened(server, ttl=0.5) as other, lock:
        with anyio.move_on_after(1.5) as patience:
            await other.acquire()
        assert patience.cancelled_caught
        assert not lock.lost


async def test_a_block_that_can_not_renew_is_cancelled_before_its_lease_ends(redis: RedisServer) -> None:
    async with opened(redis, ttl=1) as lock:
        began = anyio.current_time()
        with pytest.raises(aipc.LeaseLost):  # noqa: PT012
            async with lock:
                redis.freeze()
                await anyio.sleep_forever()
        assert anyio.current_time() - began < 1
        redis.thaw()
        async with lock:
            assert lock.token > 0


async def test_a_lease_that_others_removed_is_lost(server: RedisServer) -> None:
    async with opened(server, ttl=0.5) as lock:
        with pytest.raises(aipc.LeaseLost):  # noqa: PT012
            async with lock:
                server.command("FLUSHALL")
                await anyio.sleep_forever()
        await lock.acquire()
        server.command("FLUSHALL")
        await until(lambda: lock.lost)
        with pytest.raises(aipc.LeaseLost):
            _ = lock.token
        with pytest.raises(aipc.LeaseLost):
            lock.release()


async def test_a_block_that_kept_its_loop_beyond_the_lease_ends_with_an_error(server: RedisServer) -> None:
    async with opened(server, ttl=0.3) as lock:
        with pytest.raises(aipc.LeaseLost):
            async with lock:
                time.sleep(0.5)


async def test_an_answer_that_comes_after_the_lease_is_asked_for_again(server: RedisServer) -> None:
    async with opened(server, ttl=0.3) as lock, anyio.create_task_group() as tasks:
        server.freeze()
        tasks.start_soon(lock.acquire)
        await anyio.sleep(0.5)  # longer than the lease
        assert not lock._grants
        server.thaw()
        await until(lambda: lock._grants)
        assert lock.token == 1


async def test_a_plain_call_whose_answer_comes_after_the_lease_holds_nothing(server: RedisServer) -> None:
    async with opened(server, ttl=0.3) as lock, opened(server, ttl=0.3) as other:
        await lock.acquire()  # there is a connection
        lock.release()
        await lock._link.flushed()
        server.freeze()
        thawing = threading.Timer(0.5, server.thaw)  # longer than the lease
        thawing.start()
        with pytest.raises(anyio.WouldBlock, match="after the lease"):
            lock.acquire_nowait()
        thawing.join()
        assert not lock._grants
        async with other:  # it was given back
            pass


async def test_a_lease_that_is_short_when_it_comes_is_renewed(server: RedisServer) -> None:
    async with opened(server, ttl=1) as lock, anyio.create_task_group() as tasks:
        server.freeze()
        tasks.start_soon(lock.acquire)
        await anyio.sleep(0.6)  # of 0.8, after which its holder is told
        server.thaw()
        await until(lambda: lock._grants)
        await anyio.sleep(1)
        assert not lock.lost
        lock.release()


async def test_a_holder_that_was_stopped_learns_that_it_lost(server: RedisServer) -> None:
    holder = process("hold", server.url("lock", ttl=1))
    try:
        first = int(await anyio.to_thread.run_sync(line, holder))
        holder.send_signal(signal.SIGSTOP)
        async with opened(server, ttl=1) as lock, lock:  # as soon as the lease has ended
            assert lock.token > first
            holder.send_signal(signal.SIGCONT)
            assert await anyio.to_thread.run_sync(line, holder) == "lost"
    finally:
        end(holder)


async def test_a_dead_waiter_costs_the_next_one_nothing(server: RedisServer) -> None:
    async with opened(server) as lock, opened(server) as next_one, anyio.create_task_group() as tasks:
        async with lock:
            dead = process("wait", server.url("lock"))
            assert await anyio.to_thread.run_sync(line, dead) == "waits"
            tasks.start_soon(next_one.acquire)
            await settle()
            await lock._link.flushed()
            end(dead)
        before = anyio.current_time()
        await until(lambda: next_one._grants)
        assert anyio.current_time() - before < 1


@pytest.mark.parametrize("free", [True, False])
async def test_cancelled_at_any_await(server: RedisServer, free: bool) -> None:
    """A cancelled acquire holds nothing, and nobody waits for it."""
    async with opened(server) as lock, opened(server) as other:
        cancelled = number = 0
        while cancelled < subjects.CANCELLATIONS:
            number += 1
            if not free:
                await other.acquire()
            releasing = anyio.Event()

            def suspended(_: int, parked: bool) -> None:
                if not releasing.is_set():
                    releasing.set()
                    if not free:
                        other.release()

            outcome = await inject(lock.acquire(), number // 2 % 4, (Moment.AWAIT, Moment.READINESS)[number % 2], suspended)
            if not free and not releasing.is_set():
                other.release()
            if outcome is CANCELLED:
                cancelled += 1
            else:
                lock.release()
            await lock._link.flushed()
            assert lock.value == 1
            assert not lock._grants
            assert not lock._link.wakes._places
        print(f"{cancelled} cancelled of {number}")
        assert b":0" in server.command("EXISTS", "{lock}:queue")
