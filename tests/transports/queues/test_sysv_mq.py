"""System V message queues: types, keys, limits, removal; the peer is a C program where that matters."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing.expect import settle

from ...peers import compile_peer, process, run, said

pytestmark = pytest.mark.anyio

LIMIT = int(Path("/proc/sys/kernel/msgmax").read_text())


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("sysv_queue", tmp_path_factory))


def fresh(key: str, **options: object) -> aipc.Opening[Channel]:
    """A new queue, which goes when it is closed."""
    return aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True, **options)


def listed(identifier: int) -> list[str]:
    """The queue's line of ipcs(1): key, identifier, owner, mode, bytes, messages."""
    lines = [line.split() for line in run("ipcs", "-q").splitlines()]
    return next((line for line in lines if line[1:2] == [str(identifier)]), [])


async def test_receiving_by_type(key: str) -> None:
    """0 is the first of any type, n the first of type n, -n the first of the lowest type up to n (msgop(2))."""
    async with fresh(key) as channel:
        with anyio.fail_after(10):
            for type in (5, 3, 2, 3, 1):
                await channel.send(b"%d" % type, type=type)
            assert await channel.receive(type=3) == b"3"
            assert await channel.receive(type=-3) == b"1"
            assert await channel.receive(type=-3) == b"2"
            assert await channel.receive(type=0) == b"5"
            message = await channel.receive_message()
            assert (message.data, message.type) == (b"3", 3)
            with pytest.raises(anyio.WouldBlock):
                channel.receive_nowait(type=0)


async def test_send_many_and_receive_many_by_type(key: str) -> None:
    async with fresh(key) as channel:
        with anyio.fail_after(10):
            await channel.send_many([b"a", b"b", b"c"], type=7)
            await channel.send(b"other", type=8)
            assert await channel.receive_many(2, type=7) == [b"a", b"b"]
            assert await channel.receive_many(type=7) == [b"c"]
            assert await channel.receive_many() == [b"other"]


async def test_type_in_the_url(key: str) -> None:
    """It is the default both for sending and for receiving; what a call gives wins."""
    async with fresh(key) as everything, aipc.open_channel(f"sysv-mq:{key}?type=3") as three:
        with anyio.fail_after(10):
            await three.send(b"three")
            await three.send(b"four", type=4)
            await everything.send(b"one")
            assert await three.receive() == b"three"
            with pytest.raises(anyio.WouldBlock):
                three.receive_nowait()
            assert await three.receive(type=4) == b"four"
            assert (await everything.receive_message()).type == 1


async def test_keyword_wins_over_the_url(key: str) -> None:
    async with fresh(key) as everything, aipc.open_channel(f"sysv-mq:{key}?type=3", type=6) as six:
        with anyio.fail_after(10):
            await six.send(b"six")
            assert (await everything.receive_message()).type == 6


async def test_default_type_that_only_receives(key: str) -> None:
    async with fresh(key, type=-2) as channel:
        with anyio.fail_after(10):
            with pytest.raises(aipc.InvalidMessage):
                await channel.send(b"no type")
            for type in (3, 2, 1):
                await channel.send(b"%d" % type, type=type)
            assert await channel.receive_many() == [b"1", b"2"]


@pytest.mark.parametrize("type", [0, -1, 1 << 63, 1 << 80])
async def test_bad_type(type: int, key: str) -> None:
    async with fresh(key) as channel:
        with anyio.fail_after(10), pytest.raises(aipc.InvalidMessage, match=f"type={type}"):
            await channel.send(b"bad", type=type)
        assert channel.statistics().messages_sent == 0
        with pytest.raises(anyio.WouldBlock):
            channel.receive_nowait()


@pytest.mark.parametrize("type", [1 << 63, -(1 << 63) - 1])
async def test_bad_type_to_receive(type: int, key: str) -> None:
    async with fresh(key) as channel:
        with anyio.fail_after(10), pytest.raises(ValueError):
            await channel.receive(type=type)


async def test_tasks_wait_for_their_types(key: str) -> None:
    got: dict[int, bytes] = {}

    async def receive(type: int) -> None:
        got[type] = await channel.receive(type=type)

    async with fresh(key) as channel, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            for type in (1, 2, 3):
                tasks.start_soon(receive, type)
            await settle()
            for type in (3, 2, 1):
                await channel.send(b"%d" % type, type=type)
            while len(got) < 3:
                await settle()
    assert got == {1: b"1", 2: b"2", 3: b"3"}


async def test_size_limit(key: str) -> None:
    async with fresh(key) as channel:
        assert channel.extra(aipc.ChannelAttribute.max_message_size) == LIMIT
        with anyio.fail_after(10):
            with pytest.raises(aipc.MessageTooLarge, match=f"{LIMIT + 1:,} bytes.*kernel.msgmax"):
                await channel.send(bytes(LIMIT + 1))
            assert listed(channel.extra(aipc.ChannelAttribute.identifier))[5] == "0"
            await channel.send(b"x" * LIMIT)
            assert await channel.receive() == b"x" * LIMIT


async def test_max_bytes(key: str) -> None:
    async with fresh(key, max_bytes=1_000) as channel:
        with anyio.fail_after(10):
            await channel.send(bytes(1_000))
            with pytest.raises(anyio.WouldBlock):
                channel.send_nowait(b"x")
            await channel.receive()
            channel.send_nowait(b"x")


async def test_missing_and_exclusive(key: str) -> None:
    url = f"sysv-mq:{key}"
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing, match=key):
            await aipc.open_channel(url)
        async with fresh(key) as channel:
            with pytest.raises(aipc.ObjectExists, match=key):
                await aipc.open_channel(url, exclusive=True)
            with pytest.raises(aipc.ObjectExists):
                await aipc.open_channel(url + "?create=1&exclusive=1")
            async with aipc.open_channel(url, create=True) as other:
                await other.send(b"same queue")
                assert await channel.receive() == b"same queue"
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(url)


async def test_it_outlives_its_channel(key: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_channel(f"sysv-mq:{key}?create=1") as channel:
            await channel.send(b"kept")
        async with aipc.open_channel(f"sysv-mq:{key}?unlink=1") as channel:
            assert await channel.receive() == b"kept"
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(f"sysv-mq:{key}")


async def test_private() -> None:
    """A queue of its own for each, removed when closed."""
    with anyio.fail_after(10):
        async with aipc.open_channel("sysv-mq:private") as one, aipc.open_channel("sysv-mq:private") as other:
            assert one.extra(aipc.ChannelAttribute.key) == 0
            identifier = one.extra(aipc.ChannelAttribute.identifier)
            assert identifier != other.extra(aipc.ChannelAttribute.identifier)
            assert listed(identifier)
        assert not listed(identifier)
        async with aipc.open_channel("sysv-mq:private?unlink=0") as kept:
            identifier = kept.extra(aipc.ChannelAttribute.identifier)
        assert listed(identifier)
        run("ipcrm", "-q", str(identifier))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666], ids=oct)
async def test_mode(mode: int, key: str) -> None:
    before = os.umask(0o077)
    try:
        async with fresh(key, mode=mode) as channel:
            assert listed(channel.extra(aipc.ChannelAttribute.identifier))[3] == f"{mode:o}"
    finally:
        os.umask(before)


async def test_removed_while_waiting(key: str) -> None:
    """Every waiting task learns of it, and so does every later call."""

    async def expect_removed(channel: Channel) -> None:
        with pytest.raises(aipc.ObjectRemoved, match=key):
            await channel.receive()

    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True) as one, aipc.open_channel(f"sysv-mq:{key}") as other:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for channel in (one, one, other):
                    tasks.start_soon(expect_removed, channel)
                await settle()
                run("ipcrm", "-q", str(one.extra(aipc.ChannelAttribute.identifier)))
            with pytest.raises(aipc.ObjectRemoved):
                one.receive_nowait()
            with pytest.raises(anyio.BrokenResourceError):
                await one.send(b"gone")


async def test_removed_while_a_sender_waits(key: str) -> None:
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True, max_bytes=100) as channel:
        with anyio.fail_after(10):
            await channel.send(bytes(100))
            async with anyio.create_task_group() as tasks:

                async def expect_removed() -> None:
                    with pytest.raises(aipc.ObjectRemoved):
                        await channel.send(b"no room")

                tasks.start_soon(expect_removed)
                await settle()
                run("ipcrm", "-q", str(channel.extra(aipc.ChannelAttribute.identifier)))


@pytest.mark.parametrize("project", [1, 66, 255])
async def test_ftok(project: int, c_peer: str, place: Path) -> None:
    """A path with a project is the key that a C program gets from ftok(3)."""
    path = place / "of a key"
    path.touch()
    key = int(run(c_peer, "ftok", str(path), str(project)), 16)
    with anyio.fail_after(10):
        async with fresh(f"{path}?project={project}") as channel:
            assert channel.extra(aipc.ChannelAttribute.key) & 0xFFFFFFFF == key
            assert int(listed(channel.extra(aipc.ChannelAttribute.identifier))[0], 16) == key
        with pytest.raises(aipc.ObjectMissing, match="missing"):
            await aipc.open_channel(f"sysv-mq:{place}/missing", project=project)


async def test_forms_of_a_key(key: str) -> None:
    number = int(key, 16)
    upper = number | 0x80000000
    forms = {number: [hex(number), str(number)], upper: [hex(upper), str(upper), str(upper - (1 << 32))]}
    with anyio.fail_after(10):
        for expected, texts in forms.items():
            async with fresh(texts[0]) as channel:
                identifier = channel.extra(aipc.ChannelAttribute.identifier)
                assert int(listed(identifier)[0], 16) == expected
                for text in texts:
                    async with aipc.open_channel(f"sysv-mq:{text}") as other:
                        assert other.extra(aipc.ChannelAttribute.identifier) == identifier


async def test_largest_key() -> None:
    """C's (key_t) -1."""
    with anyio.fail_after(10):
        async with fresh("0xffffffff") as channel:
            assert listed(channel.extra(aipc.ChannelAttribute.identifier))[0] == "0xffffffff"


@pytest.mark.parametrize(
    "rest",
    [
        "", "0", "0x0", "text", "1.5", "0x100000000", "-0x80000001", "1234?project=1", "private?project=1",
        "/etc/passwd", "/etc/passwd?project=0", "/etc/passwd?project=256", "//etc/passwd?project=1",
        "//1234",
    ],
)  # fmt: skip
async def test_bad_key(rest: str) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError):
        await aipc.open_channel(f"sysv-mq:{rest}", create=True, unlink=True)


async def test_to_c(c_peer: str, key: str) -> None:
    async with fresh(key) as channel:
        with anyio.fail_after(10):
            await channel.send(b"for another", type=4)
            await channel.send(b"for C", type=3)
            assert run(c_peer, "receive", key, "3") == "3 for C\n"
            assert run(c_peer, "receive", key, "-9") == "4 for another\n"


async def test_to_c_that_waits(c_peer: str, key: str) -> None:
    async with fresh(key) as channel:
        with process(c_peer, "receive", key, "0") as peer, anyio.fail_after(10):
            await channel.send(b"at last", type=9)
            assert said(peer) == "9 at last"


async def test_from_c(c_peer: str, key: str) -> None:
    async with fresh(key) as channel:
        with anyio.fail_after(10):
            run(c_peer, "send", key, "5", "from C")
            run(c_peer, "send", key, "6", "")
            assert await channel.receive(type=6) == b""
            message = await channel.receive_message()
            assert (message.data, message.type) == (b"from C", 5)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, run, c_peer, "send", key, "7", "awaited")
                assert await channel.receive(type=7) == b"awaited"
