"""A peer that stores anything anywhere, at any time, rings as it likes, and dies: named errors, and nobody spins or hangs."""

from __future__ import annotations

import mmap
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import RingChannel
from aipc.exceptions import AipcError
from aipc.testing.expect import settle

from ....peers import python, said, tell
from .hostile import CONSUMED, ENDED, GOOD, PUBLISHED, REGISTERED, SLEEPS, THEIRS, Numbers, Raw, memfd

pytestmark = pytest.mark.anyio

ERRORS = (AipcError, anyio.EndOfStream, anyio.BrokenResourceError)
CONTROLS = [base + at for base in (0, THEIRS) for at in (PUBLISHED, CONSUMED, *SLEEPS, ENDED, REGISTERED)]
CLIENTS = 60
MEANT = {"done", "ProtocolError", "EndOfStream"}

ATTACKERS = """
import mmap, os, random, signal, sys
from contextlib import suppress
from pathlib import Path
from tests.transports.shm.untrusted.hostile import *
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
CONTROLS = [base + at for base in (0, THEIRS) for at in (PUBLISHED, CONSUMED, *SLEEPS, ENDED, REGISTERED)]
def attack(seed):
    numbers, chance = Numbers(seed, 4096), random.Random(seed)
    raw = Raw(Path(sys.argv[1]))
    with memfd(GOOD) as fd:
        words = memoryview(mmap.mmap(fd, GOOD)).cast("Q")
        raw.offer([fd])
    raw.socket.setblocking(False)
    gentle, position = chance.random() ** 3, 0
    while True:
        if chance.random() < gentle:
            words[(8192 + position % 4096) // 8] = 0  # an empty message
            position += 8
            words[THEIRS + PUBLISHED] = position
            words[CONSUMED] = words[PUBLISHED]
            action = 3
        else:
            action = chance.randrange(4)
        if action == 0:
            words[chance.choice(CONTROLS)] = numbers.any()
        elif action == 1:
            words[chance.randrange(512, GOOD // 8)] = numbers.any()
        elif action == 2:
            words[THEIRS + PUBLISHED] = numbers.moved(words[THEIRS + CONSUMED])
        else:
            with suppress(BlockingIOError):
                raw.socket.send(bytes([chance.randrange(256)]) * chance.choice([1, 1, 1, 5000]))
for seed in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        with suppress(OSError):
            attack(int(seed))
        os._exit(0)
    print(pid, flush=True)
"""


async def lend(channel: RingChannel, size: int) -> None:
    async with channel.loan(size) as view:
        view[:] = bytes(size)


async def look(channel: RingChannel) -> None:
    async with channel.receive_view() as view:
        bytes(view)


def sends(channel: RingChannel) -> list[Callable[[], Awaitable[object]]]:
    send, many = channel.send, channel.send_many
    return [partial(send, b"x"), partial(send, bytes(9000)), partial(many, [b"x" * 9] * 100), partial(lend, channel, 1000)]


def receives(channel: RingChannel) -> list[Callable[[], Awaitable[object]]]:
    return [channel.receive, channel.receive_many, partial(look, channel)]


async def use(operations: list[Callable[[], Awaitable[object]]], chance: random.Random, outcomes: set[str]) -> None:
    """Until the peer has broken it for good, or is gone: some are cancelled, and none fails but with an error that has a name."""
    failures = 0
    while failures < 3:
        with anyio.move_on_after(chance.choice([0.001, 0.01, 30])) as scope:
            try:
                await chance.choice(operations)()
                outcomes.add("done")
            except ERRORS as error:
                outcomes.add(type(error).__name__)
                failures += 1
        assert not scope.cancelled_caught or scope.deadline < anyio.current_time() + 20


async def test_attackers_that_are_killed(place: Path) -> None:
    """In a process of their own, so at any moment; they are killed at some moment, too. Which outcome a client
    has is chance: there are more of them until each outcome was seen.
    """
    outcomes: set[str] = set()
    chance = random.Random(5)
    with python(ATTACKERS, str(place)) as factory:
        async with aipc.listen(f"shm:{place}/ring", max_message_size=20_000) as listener:
            for seed in range(10 * CLIENTS):
                if seed >= CLIENTS and outcomes >= MEANT:
                    break
                tell(factory, str(seed))
                attacker = int(said(factory))
                with anyio.fail_after(30):
                    async with await listener.accept() as channel, anyio.create_task_group() as tasks:
                        assert isinstance(channel, RingChannel)
                        tasks.start_soon(use, sends(channel), chance, outcomes)
                        tasks.start_soon(use, receives(channel), chance, outcomes)
                        await anyio.sleep(chance.random() * 0.02)
                        os.kill(attacker, signal.SIGKILL)
    assert outcomes >= MEANT


async def test_stores_that_stop(place: Path) -> None:
    """Whatever stands in the memory, a task that can't go on waits, or fails; it does not try again and again."""
    waited = failed = 0
    for seed in range(CLIENTS):
        numbers, chance = Numbers(seed, 4096), random.Random(seed)
        pending: set[int] = set()

        async def run(number: int, operation: Callable[[], Awaitable[object]], pending: set[int] = pending) -> None:
            nonlocal failed
            pending.add(number)
            try:
                await operation()
            except ERRORS:
                failed += 1
            pending.discard(number)

        async with aipc.listen(f"shm:{place}/ring", max_message_size=20_000) as listener:
            with ExitStack() as stack:
                raw, fd = stack.enter_context(closing(Raw(place))), stack.enter_context(memfd(GOOD))
                mapped = stack.enter_context(closing(mmap.mmap(fd, GOOD)))
                words = stack.enter_context(stack.enter_context(memoryview(mapped)).cast("Q"))
                raw.offer([fd])
                async with await listener.accept() as channel, anyio.create_task_group() as tasks:
                    assert isinstance(channel, RingChannel)
                    for number, operation in enumerate([*sends(channel), *receives(channel)]):
                        tasks.start_soon(run, number, operation)
                    for _ in range(chance.randrange(6)):
                        for _ in range(chance.randrange(4)):
                            words[chance.choice(CONTROLS)] = numbers.any()
                            words[chance.randrange(512, GOOD // 8)] = numbers.any()
                        words[THEIRS + PUBLISHED] = numbers.moved(words[THEIRS + CONSUMED])
                        with suppress(BlockingIOError):
                            raw.socket.send(b"x")
                        await anyio.lowlevel.checkpoint()
                    with anyio.fail_after(20):
                        while parked(channel) < len(pending):  # what finishes a cancelled message may wait, too
                            await settle()
                    waited += len(pending)
                    raw.close()
                    with anyio.fail_after(20):
                        while pending:
                            await settle()
    assert min(waited, failed) > 50


def parked(channel: RingChannel) -> int:
    """Tasks that wait for the doorbell, and do not look again in each turn of the loop."""
    waiting = channel._handle.readable
    return (waiting._first is not None) + len(waiting._others or ())
