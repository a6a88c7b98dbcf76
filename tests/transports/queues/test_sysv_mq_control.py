"""System V queues: selection beyond types, messages cut off, status, owner, limits and removal, as msgop(2) and msgctl(2) have it."""

from __future__ import annotations

import os
import time

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, run, said

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("sysv_queue", tmp_path_factory))


def queue(channel: Channel) -> aipc.SysVQueueChannel:
    assert isinstance(channel, aipc.SysVQueueChannel)
    return channel


def fresh(key: str, **options: object) -> aipc.Opening[Channel]:
    """A new queue, which goes when it is closed."""
    return aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True, **options)


def listed(key: str) -> dict[str, str]:
    """What ipcs(1) says about a queue, by its own words."""
    lines = run("ipcs", "-q", "-i", str(identifier(key))).splitlines()
    pairs = [part.split("=", 1) for line in lines for part in line.replace("= ", "=").split() if "=" in part]
    return {name.strip(): value.strip() for name, value in pairs}


def identifier(key: str) -> int:
    (found,) = [line.split()[1] for line in run("ipcs", "-q").splitlines() if line.startswith(f"0x{int(key, 16):08x}")]
    return int(found)


async def test_every_type_but_one(key: str) -> None:
    """MSG_EXCEPT: the first message of any other type, in every form of receiving."""
    async with fresh(key) as channel:
        with anyio.fail_after(10):
            for type in (3, 3, 1, 2, 3, 4, 5):
                await channel.send(b"%d" % type, type=type)
            assert await channel.receive(except_type=3) == b"1"
            assert channel.receive_nowait(except_type=3) == b"2"
            message = await channel.receive_message(except_type=3)
            assert (message.data, message.type, message.truncated) == (b"4", 4, False)
            assert await channel.receive_many(except_type=3) == [b"5"]
            with pytest.raises(anyio.WouldBlock):
                channel.receive_nowait(except_type=3)
            assert await channel.receive_many(except_type=9) == [b"3", b"3", b"3"]


async def test_waiting_for_every_type_but_one(key: str) -> None:
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await channel.receive(except_type=3))

    async with fresh(key) as channel:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await channel.send(b"not this", type=3)
                await settle()
                assert got == []
                await channel.send(b"this", type=2)
            assert got == [b"this"]
            assert await channel.receive() == b"not this"


@pytest.mark.parametrize(
    "selection", [{"except_type": 0}, {"except_type": -1}, {"except_type": 2, "type": 3}, {"except_type": 1 << 63}]
)
async def test_bad_exception(selection: dict[str, int], key: str) -> None:
    async with fresh(key) as channel:
        await channel.send(b"stays")
        with anyio.fail_after(10), pytest.raises(aipc.InvalidMessage):
            await channel.receive(**selection)
        assert await channel.receive() == b"stays"


async def test_except_wins_over_the_default_type(key: str) -> None:
    async with fresh(key, type=3) as channel:
        with anyio.fail_after(10):
            await channel.send(b"three")
            await channel.send(b"four", type=4)
            assert await channel.receive(except_type=3) == b"four"


async def test_c_takes_every_type_but_one(c_peer: str, key: str) -> None:
    """And what C sends, we select so."""
    async with fresh(key) as channel:
        with anyio.fail_after(10):
            await channel.send(b"three", type=3)
            await channel.send(b"four", type=4)
            assert run(c_peer, "except", key, "3") == "4 four\n"
            run(c_peer, "send", key, "5", "from C")
            assert await channel.receive(except_type=3) == b"from C"
            with process(c_peer, "except", key, "3") as peer:
                await channel.send(b"six", type=6)
                assert said(peer) == "6 six"


async def test_a_longer_message_stays(key: str) -> None:
    """A receiver with a limit of its own gets MessageTooLarge, again and again; others take the message whole."""
    async with fresh(key) as whole, aipc.open_channel(f"sysv-mq:{key}?max_message_size=4") as short:
        with anyio.fail_after(10):
            await whole.send(b"12345")
            for _ in range(2):
                with pytest.raises(aipc.MessageTooLarge, match=r"max_message_size=4 .*stays.*truncate=True"):
                    await short.receive()
            with pytest.raises(aipc.MessageTooLarge):
                short.receive_nowait()
            with pytest.raises(aipc.MessageTooLarge):
                await short.receive_many(except_type=9)
            with pytest.raises(aipc.MessageTooLarge, match="5 bytes"):
                await short.send(b"12345")
            assert await whole.receive() == b"12345"
            await short.send(b"1234")
            assert await short.receive() == b"1234"


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 100, 8192])
async def test_truncating(size: int, key: str) -> None:
    """MSG_NOERROR: what fits of it, and whether that was all."""
    data = bytes(range(256)) * 32
    async with fresh(key) as whole, aipc.open_channel(f"sysv-mq:{key}", max_message_size=4) as short:
        with anyio.fail_after(10):
            for _ in range(2):
                await whole.send(data[:size], type=7)
            message = await short.receive_message(truncate=True)
            assert message == aipc.Message(data[: min(size, 4)], type=7, truncated=size > 4)
            assert await short.receive(truncate=True, type=7) == data[: min(size, 4)]
            with pytest.raises(anyio.WouldBlock):
                short.receive_nowait(truncate=True)
            await whole.send(data[:size], type=7)
            assert (await whole.receive_message(truncate=True)).data == data[:size]


async def test_truncating_every_type_but_one(key: str) -> None:
    async with fresh(key) as whole, aipc.open_channel(f"sysv-mq:{key}", max_message_size=2) as short:
        with anyio.fail_after(10):
            await whole.send(b"three", type=3)
            await whole.send(b"four", type=4)
            message = await short.receive_message(except_type=3, truncate=True)
            assert message == aipc.Message(b"fo", type=4, truncated=True)
            assert await whole.receive() == b"three"


async def test_limit_over_the_kernels(key: str) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError, match=r"100,000.*kernel\.msgmax"):
        await aipc.open_channel(f"sysv-mq:{key}?max_message_size=100000", create=True)


async def test_status(c_peer: str, key: str) -> None:
    """As ipcs(1) has it; C is the one who sent."""
    before = int(time.time()) - 1  # the kernel's seconds change some milliseconds late
    async with fresh(key, mode=0o640) as channel:
        new = queue(channel).stat()
        assert new[:7] == (0, 0, new.max_bytes, 0, 0, 0, 0)
        assert before <= new.ctime <= time.time()
        with process(c_peer, "send", key, "5", "from C") as peer:
            assert peer.wait(10) == 0
            sender = peer.pid
        status = queue(channel).stat()
        assert (status.qnum, status.bytes, status.lspid, status.lrpid) == (1, 6, sender, 0)
        assert before <= status.stime <= time.time()
        assert (status.mode, status.uid, status.gid) == (0o640, os.getuid(), os.getgid())
        seen = listed(key)
        assert [int(seen[name]) for name in ("qnum", "cbytes", "qbytes", "lspid", "lrpid")] == [
            1,
            6,
            status.max_bytes,
            sender,
            0,
        ]
        await channel.receive()
        status = queue(channel).stat()
        assert (status.qnum, status.bytes, status.lrpid) == (0, 0, os.getpid())
        assert before <= status.rtime <= time.time()


async def test_changing(key: str) -> None:
    """Only what is given changes; ipcs(1) sees it."""
    async with fresh(key) as channel:
        before = queue(channel).stat()
        queue(channel).change(mode=0o622)
        queue(channel).change(max_bytes=100)
        assert queue(channel).stat() == before._replace(mode=0o622, max_bytes=100, ctime=queue(channel).stat().ctime)
        seen = listed(key)
        assert (seen["mode"], seen["qbytes"]) == ("0622", "100")
        with pytest.raises(ValueError, match="max_bytes=-1"):
            queue(channel).change(max_bytes=-1)
        assert queue(channel).stat().max_bytes == 100


async def test_more_room_lets_a_waiting_sender_in(key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, max_bytes=100) as channel:
            await channel.send(bytes(100))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.send, b"waits")
                await settle()
                assert queue(channel).stat().qnum == 1
                queue(channel).change(max_bytes=105)
            assert queue(channel).stat()[:2] == (2, 105)


async def test_a_full_queue_holds_senders_up(c_peer: str, key: str) -> None:
    """None of the messages of three senders is lost or doubled, and C makes room as well as we do."""
    expected = sorted(b"%d %03d" % (sender, number) for sender in range(3) for number in range(100))

    async def send(sender: int) -> None:
        for number in range(100):
            await channel.send(b"%d %03d" % (sender, number))

    with anyio.fail_after(30):
        async with fresh(key, max_bytes=30) as channel, aipc.open_channel(f"sysv-mq:{key}") as receiver:
            async with anyio.create_task_group() as tasks:
                for sender in range(3):
                    tasks.start_soon(send, sender)
                while queue(channel).stat().bytes < 30:
                    await settle()
                got = [(await anyio.to_thread.run_sync(run, c_peer, "receive", key, "0")).split(maxsplit=1)[1].strip().encode()]
                while len(got) < 300:
                    got += await receiver.receive_many()
            assert sorted(got) == expected


async def test_removing(key: str) -> None:
    """Everybody who waits learns of it; again, and closing afterwards, do nothing."""
    removed = 0

    async def expect_removed(channel: Channel) -> None:
        nonlocal removed
        with pytest.raises(aipc.ObjectRemoved, match=key):
            await channel.receive()
        removed += 1

    with anyio.fail_after(10):
        async with fresh(key) as channel, aipc.open_channel(f"sysv-mq:{key}", unlink=True) as other:
            async with anyio.create_task_group() as tasks:
                for waiting in (channel, channel, other):
                    tasks.start_soon(expect_removed, waiting)
                await settle()
                queue(channel).remove()
                await settle()
                assert removed >= 2  # this object's at once, without another look
            queue(channel).remove()
            with pytest.raises(aipc.ObjectRemoved):
                queue(channel).stat()
            with pytest.raises(aipc.ObjectRemoved):
                queue(channel).change(mode=0o600)
            with pytest.raises(aipc.ObjectMissing):
                await aipc.open_channel(f"sysv-mq:{key}")
        with pytest.raises(anyio.ClosedResourceError):
            queue(channel).remove()
        with pytest.raises(anyio.ClosedResourceError):
            queue(channel).stat()


async def test_made_and_removed_by_the_tools() -> None:
    """ipcmk(1) makes a queue that we open; ipcrm(1) takes it from under us."""
    with anyio.fail_after(10):
        number = run("ipcmk", "-Q", "-p", "0600").split()[-1]
        (key,) = [line.split()[0] for line in run("ipcs", "-q").splitlines() if line.split()[1:2] == [number]]
        async with aipc.open_channel(f"sysv-mq:{key}") as channel:
            assert channel.extra(aipc.ChannelAttribute.identifier) == int(number)
            await channel.send(b"hello")
            assert await channel.receive() == b"hello"
            run("ipcrm", "-Q", key)
            with pytest.raises(aipc.ObjectRemoved):
                await channel.receive()


STRANGER = """
import asyncio, os, sys, anyio, aipc
from aipc.testing.expect import settle
async def main():
    loaded = await aipc.open_channel("sysv-mq:private")
    await loaded.aclose()
    await settle()  # all is imported by now
    if os.getuid() == 0:
        os.setuid(65534)
    before = set(os.listdir("/proc/self/fd"))
    channel = await aipc.open_channel(sys.argv[1], unlink=True)
    waiting = asyncio.create_task(channel.receive())
    await settle()
    for refused in (channel.remove, lambda: channel.change(mode=0o600), lambda: channel.change(max_bytes=1 << 30)):
        try:
            refused()
        except PermissionError as error:
            print(type(error).__name__, flush=True)
    try:
        await channel.aclose()
    except PermissionError as error:
        print(type(error).__name__, flush=True)
    try:
        await waiting
    except anyio.ClosedResourceError as error:
        print(type(error).__name__, flush=True)
    await channel.aclose()
    del channel
    print("left", len(set(os.listdir("/proc/self/fd")) - before), flush=True)
asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes another user")
async def test_of_another_user(key: str) -> None:
    """Removing, changing and unlinking on close are refused; everything else of closing has happened by then."""
    with anyio.fail_after(10):
        async with fresh(key, mode=0o666) as channel:
            with python(STRANGER, f"sysv-mq:{key}") as stranger:
                said_by_it = [said(stranger) for _ in range(6)]
            assert said_by_it == ["AccessDenied"] * 4 + ["ClosedResourceError", "left 0"]
            await channel.send(b"still there")
            assert await channel.receive() == b"still there"


OWNER = """
import asyncio, os, sys, aipc
opening = aipc.open_channel(sys.argv[1])  # all is imported by now
os.setuid(65534)
async def main():
    async with opening as channel:
        channel.change(mode=0o400)
        print(channel.stat().mode, flush=True)
asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes another user")
async def test_given_to_another_user(key: str) -> None:
    async with fresh(key, mode=0o600) as channel:
        queue(channel).change(uid=65534, gid=65533)
        status = queue(channel).stat()
        assert (status.uid, status.gid) == (65534, 65533)
        with python(OWNER, f"sysv-mq:{key}") as owner, anyio.fail_after(10):
            assert said(owner) == str(0o400)
