"""Typed channels: values of one type, checked on arrival, over any mechanism."""

from __future__ import annotations

import datetime
from pathlib import Path

import anyio
import msgspec
import pytest

import aipc
from aipc import ProtocolError
from aipc.testing import CANCELLED, Moment, inject

from ..subjects import CHANNELS

pytestmark = pytest.mark.anyio


class Job(msgspec.Struct):
    name: str
    sizes: list[int]
    due: datetime.datetime | None = None


class Picture(msgspec.Struct):
    name: str
    pixels: memoryview


JOBS = [Job("a", []), Job("b\n", [1, 2]), Job("ü", [], datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))]


@pytest.mark.parametrize("codec", ["msgpack", "json"])
@pytest.mark.parametrize("mechanism", ["unix", "shm-64-KiB", "tcp", "exec", "posix-mq", "sysv-mq", "stream-pair"])
async def test_values_arrive_as_they_were(mechanism: str, codec: str, place: Path) -> None:
    async with CHANNELS[mechanism](place).open_pair() as (sender, receiver):
        ours, theirs = aipc.typed(sender, Job, codec=codec), aipc.typed(receiver, Job, codec=codec)
        for job in JOBS:
            await ours.send(job)
            assert await theirs.receive() == job
        await ours.send_many(JOBS)
        received: list[Job] = []
        while len(received) < len(JOBS):
            received += await theirs.receive_many()
        assert received == JOBS
        ours.send_nowait(JOBS[0])
        assert await theirs.receive() == JOBS[0]


async def test_json_goes_over_lines(place: Path) -> None:
    url = f"unix:{place}/socket?framing=lines"
    async with aipc.listen(url) as listener, aipc.open_channel(url) as ours:
        sender, receiver = aipc.typed(ours, Job, codec="json"), aipc.typed(await listener.accept(), Job, codec="json")
        async with receiver:
            await sender.send(Job("a\nb", [1]))
            await sender.send_eof()
            assert [job async for job in receiver] == [Job("a\nb", [1])]
            assert receiver.statistics().messages_received == 1


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_another_type_is_an_error_and_the_next_one_arrives(codec: str) -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, aipc.typed(theirs, Job, codec=codec) as receiver:
        good = aipc.typed(ours, Job, codec=codec)
        bad = aipc.typed(ours, object, codec=codec)
        await bad.send({"name": "x", "sizes": [1, "two"]})
        await good.send(JOBS[0])
        with pytest.raises(ProtocolError, match=r"is no Job: Expected `int`, got `str` - at `\$.sizes\[1\]`"):
            await receiver.receive()
        assert await receiver.receive() == JOBS[0]


async def test_garbage_is_a_named_error() -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, aipc.typed(theirs, object) as receiver:
        for garbage in (b"", b"\xc1", b"\x92\x01", b"\xa2\xff\xff", b"\x91" * 100_000 + b"\xc0"):
            await ours.send(garbage)
            with pytest.raises(ProtocolError, match="is no object"):
                await receiver.receive()
        await ours.send(b"\x01")
        assert await receiver.receive() == 1


async def test_receive_many_gives_the_good_ones_first() -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, aipc.typed(theirs, int) as receiver:
        encode = msgspec.msgpack.encode
        await ours.send_many([encode(item) for item in (1, 2, "three", "four", 5)])
        assert await receiver.receive_many() == [1, 2]
        with pytest.raises(ProtocolError):
            await receiver.receive_many()
        with pytest.raises(ProtocolError):
            receiver.receive_nowait()
        assert await receiver.receive_many() == [5]
        with pytest.raises(anyio.WouldBlock):
            receiver.receive_nowait()


async def test_what_was_left_is_kept_for_its_own_selection(key: str) -> None:
    async with aipc.open_channel(f"sysv-mq:{key}?create=1&unlink=1") as queue, aipc.typed(queue, int) as numbers:
        await queue.send(msgspec.msgpack.encode(1), type=1)
        await queue.send(msgspec.msgpack.encode("bad"), type=1)
        await queue.send(msgspec.msgpack.encode(3), type=1)
        await queue.send(msgspec.msgpack.encode(4), type=2)
        assert await numbers.receive_many(type=1) == [1]
        assert await numbers.receive(type=2) == 4
        with pytest.raises(ProtocolError):
            await numbers.receive(type=1)
        assert await numbers.receive(type=1) == 3


async def test_meta_goes_to_the_mechanism(key: str) -> None:
    async with aipc.open_channel(f"sysv-mq:{key}?create=1&unlink=1") as queue:
        jobs = aipc.typed(queue, Job)
        await jobs.send(JOBS[0], type=7)
        await jobs.send(JOBS[1], type=3)
        assert await jobs.receive(type=3) == JOBS[1]
        assert await jobs.receive() == JOBS[0]


async def test_a_memoryview_is_not_copied() -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with aipc.typed(ours, Picture) as sender, aipc.typed(theirs, Picture) as receiver:
        pixels = bytes(range(256)) * 4_000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send, Picture("a", memoryview(pixels)))
            picture = await receiver.receive()
        assert picture.pixels == pixels
        assert isinstance(picture.pixels.obj, bytes)  # the message itself
        assert len(picture.pixels.obj) > len(pixels)


async def test_what_can_not_be_encoded_is_not_sent() -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with aipc.typed(ours, object) as sender, theirs:
        with pytest.raises(TypeError):
            await sender.send(object())
        with pytest.raises(TypeError):
            await sender.send_many([1, object(), 2])
        assert await theirs.receive_many() == [b"\x01"]


def test_unknown_codecs_and_types() -> None:
    with pytest.raises(ValueError, match="codec='xml': must be one of msgpack, json"):
        aipc.typed(None, int, codec="xml")
    with pytest.raises(TypeError):
        aipc.typed(None, dict[Job, int] | dict[str, int])


@pytest.mark.parametrize("mechanism", ["unix", "shm-64-KiB"])
async def test_cancelled_receives_lose_nothing(mechanism: str, place: Path) -> None:
    async with CHANNELS[mechanism](place).open_pair() as (ours, theirs):
        sender, receiver = aipc.typed(ours, Job), aipc.typed(theirs, Job)
        for number in range(300):
            job = Job(str(number), [number])
            sent = False

            def suspended(at: int, parked: bool, job: Job = job) -> None:
                nonlocal sent
                if parked and not sent:
                    sent = True
                    sender.send_nowait(job)

            moment = Moment.READINESS if number % 2 else Moment.AWAIT
            outcome = await inject(receiver.receive(), number % 4, moment, suspended)
            if outcome is CANCELLED:
                if not sent:
                    sender.send_nowait(job)
                outcome = await receiver.receive()
            assert outcome == job
