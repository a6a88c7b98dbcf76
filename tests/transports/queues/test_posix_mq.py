"""POSIX message queues: priorities, attributes, names, limits, removal, several readers; the peer is a C program where that matters."""

from __future__ import annotations

import os
import stat
from collections import Counter
from contextlib import ExitStack

import anyio
import pytest

import aipc
from aipc.abc import Channel, ChannelAttribute
from aipc.testing import kernel_objects
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, run, said
from ...subjects import fill, new_name

pytestmark = pytest.mark.anyio

LARGEST = 32_767


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("posix_queue", tmp_path_factory))


@pytest.fixture
def name() -> str:
    return new_name()


def fresh(name: str, **options: object) -> aipc.Opening[Channel]:
    """A new queue, which goes when it is closed."""
    return aipc.open_channel(f"posix-mq:{name}", exclusive=True, unlink=True, **options)


async def test_highest_priority_first(name: str) -> None:
    """And the oldest first among equals (mq_receive(3))."""
    async with fresh(name) as channel:
        with anyio.fail_after(10):
            for number, priority in enumerate((0, 9, 3, 9, LARGEST)):
                await channel.send(b"%d" % number, priority=priority)
            messages = [await channel.receive_message() for _ in range(5)]
            assert [(message.data, message.priority) for message in messages] == [
                (b"4", LARGEST), (b"1", 9), (b"3", 9), (b"2", 3), (b"0", 0),
            ]  # fmt: skip


async def test_every_form_of_sending_takes_a_priority(name: str) -> None:
    async with fresh(name) as channel:
        with anyio.fail_after(10):
            await channel.send(b"plain")
            await channel.send_many([b"a", b"b"], priority=2)
            channel.send_nowait(b"first", priority=3)
            assert await channel.receive_many(3) == [b"first", b"a", b"b"]
            assert await channel.receive_many() == [b"plain"]


async def test_priority_in_the_url(name: str) -> None:
    """It is what `send` gives where the call says nothing."""
    async with fresh(name) as channel, aipc.open_channel(f"posix-mq:{name}?priority=7") as urgent:
        with anyio.fail_after(10):
            await channel.send(b"later")
            await urgent.send(b"now")
            await urgent.send(b"last", priority=0)
            messages = [await channel.receive_message() for _ in range(3)]
            assert [(message.data, message.priority) for message in messages] == [(b"now", 7), (b"later", 0), (b"last", 0)]
        with pytest.raises(aipc.AddressError, match=r"priority=32768.*32,767"):
            await aipc.open_channel(f"posix-mq:{name}?priority=32768")


@pytest.mark.parametrize("priority", [-1, LARGEST + 1, 1 << 40])
async def test_bad_priority(priority: int, name: str) -> None:
    async with fresh(name) as channel:
        with anyio.fail_after(10), pytest.raises(aipc.InvalidMessage, match=f"priority={priority}"):
            await channel.send(b"bad", priority=priority)
        assert channel.extra(ChannelAttribute.messages) == channel.statistics().messages_sent == 0


async def test_attributes(name: str) -> None:
    async with fresh(name, max_messages=3, max_message_size=100) as channel, aipc.open_channel(f"posix-mq:{name}") as other:
        for end in (channel, other):
            assert end.extra(ChannelAttribute.max_messages) == 3
            assert end.extra(ChannelAttribute.max_message_size) == 100
        assert os.readlink(f"/proc/self/fd/{channel.extra(ChannelAttribute.descriptor)}") == name
        assert fill(channel, b"x") == 3
        assert other.extra(ChannelAttribute.messages) == 3
        with anyio.fail_after(10):
            await other.receive()
        assert other.extra(ChannelAttribute.messages) == 2
    with pytest.raises(anyio.ClosedResourceError):
        channel.extra(ChannelAttribute.messages)


async def test_size_limit(name: str) -> None:
    """Checked before the send, and the error has both figures."""
    async with fresh(name, max_message_size=100) as channel:
        with anyio.fail_after(10):
            with pytest.raises(aipc.MessageTooLarge, match=r"101 bytes.*100"):
                await channel.send(bytes(101))
            assert channel.extra(ChannelAttribute.messages) == 0
            await channel.send(b"x" * 100)
            assert await channel.receive() == b"x" * 100


async def test_missing_and_exclusive(name: str) -> None:
    url = f"posix-mq:{name}"
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing, match=name):
            await aipc.open_channel(url)
        async with fresh(name) as channel:
            with pytest.raises(aipc.ObjectExists, match=name):
                await aipc.open_channel(url, exclusive=True)
            with pytest.raises(aipc.ObjectExists):
                await aipc.open_channel(url + "?create=1&exclusive=1")
            async with aipc.open_channel(url, create=True) as other:
                await other.send(b"same queue")
                assert await channel.receive() == b"same queue"
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(url)


@pytest.mark.parametrize("create", [False, True])
async def test_attributes_that_the_queue_does_not_have(create: bool, name: str) -> None:
    """Are not silently ignored; those that it has are welcome."""
    url = f"posix-mq:{name}"
    async with fresh(name, max_messages=3, max_message_size=100):
        with pytest.raises(aipc.WrongObject, match="max_messages=3, not 4"):
            await aipc.open_channel(url, create=create, max_messages=4)
        with pytest.raises(aipc.WrongObject, match="max_message_size=100, not 1,000"):
            await aipc.open_channel(url, create=create, max_messages=3, max_message_size=1_000)
        async with aipc.open_channel(url, create=create, max_messages=3, max_message_size=100):
            pass


async def test_it_outlives_its_channel(name: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_channel(f"posix-mq:{name}?create=1") as channel:
            await channel.send(b"kept")
        async with aipc.open_channel(f"posix-mq:{name}?unlink=1") as channel:
            assert await channel.receive() == b"kept"
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(f"posix-mq:{name}")


async def test_removed_queue_lives_on_until_it_is_closed(name: str) -> None:
    with anyio.fail_after(10):
        async with fresh(name) as channel, aipc.open_channel(f"posix-mq:{name}") as other:
            async with aipc.open_channel(f"posix-mq:{name}", unlink=True):
                pass
            await other.send(b"still there")
            assert await channel.receive() == b"still there"
            async with fresh(name) as successor:
                await channel.aclose()  # was to unlink its own queue, which another one has replaced
                await successor.send(b"not the other")
                async with aipc.open_channel(f"posix-mq:{name}") as again:
                    assert await again.receive() == b"not the other"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666], ids=oct)
async def test_mode(mode: int, name: str) -> None:
    before = os.umask(0o077)
    try:
        async with fresh(name, mode=mode) as channel:
            assert stat.S_IMODE(os.fstat(channel.extra(ChannelAttribute.descriptor)).st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("rest", ["", "name", "/", "/.", "/..", "/a/b", "//name", "///a/b", "/a%2Fb", "/" + 256 * "x"])
async def test_bad_name(rest: str) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError, match="name"):
        await aipc.open_channel(f"posix-mq:{rest}", create=True, unlink=True)


@pytest.mark.parametrize("rest", ["a b", "ä", "%FF", "x" * 200])
async def test_odd_name(rest: str) -> None:
    url = f"posix-mq:{new_name()}{rest}"
    async with aipc.open_channel(url, exclusive=True, unlink=True) as one, aipc.open_channel(url) as other:
        with anyio.fail_after(10):
            await one.send(b"found")
            assert await other.receive() == b"found"


async def test_longest_name() -> None:
    name = new_name().ljust(256, "x")
    async with fresh(name) as channel, aipc.open_channel(f"posix-mq://{name}") as other:
        with anyio.fail_after(10):
            await channel.send(b"found")
            assert await other.receive() == b"found"


@pytest.mark.parametrize("options", ["max_messages=1000000", f"max_message_size={1 << 30}", f"max_messages={1 << 70}"])
async def test_over_the_kernels_limits(options: str, name: str) -> None:
    """The error names each limit, and how high it is."""
    text = r"msg_max is \d+.*msgsize_max is \d+.*queues_max is \d+.*RLIMIT_MSGQUEUE is [\d,]+ bytes"
    with anyio.fail_after(10):
        with pytest.raises(aipc.LimitExceeded, match=text) as caught:
            await aipc.open_channel(f"posix-mq:{name}?create=1&{options}")
        assert name in str(caught.value)
        assert options.partition("=")[0] in str(caught.value)
        assert isinstance(caught.value, OSError)
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(f"posix-mq:{name}")


AS_SOMEBODY = """
import asyncio, os, resource, sys
import anyio, aipc
from aipc.transports.queues import posix_mq
resource.setrlimit(resource.RLIMIT_MSGQUEUE, (int(sys.argv[2]), int(sys.argv[2])))
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
async def main():
    try:
        async with aipc.open_channel(sys.argv[1], **eval(sys.argv[3])) as channel:
            for operation in (lambda: channel.send_nowait(b"mine"), channel.receive_nowait):
                try:
                    print(operation(), end=" ")
                except (aipc.UnsupportedOperation, anyio.WouldBlock) as error:
                    print(type(error).__name__, end=" ")
            print()
    except (aipc.AipcError, OSError) as error:
        print(type(error).__name__, error)
asyncio.run(main())
"""


async def test_no_memory_for_a_queue(name: str) -> None:
    """RLIMIT_MSGQUEUE is a user's, for all queues together."""
    with python(AS_SOMEBODY, f"posix-mq:{name}", "1000", "{'create': True}") as other:
        line = said(other)
    assert line.startswith("LimitExceeded")
    assert "RLIMIT_MSGQUEUE is 1,000 bytes" in line


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user, and only root can become one")
@pytest.mark.parametrize(
    ("mode", "said_by_other"),
    [
        (0o600, "AccessDenied"),
        (0o622, "None UnsupportedOperation"),
        (0o644, "UnsupportedOperation b'ours'"),
        (0o666, "None b'ours'"),
    ],
    ids=["neither", "sends", "receives", "both"],
)
async def test_another_user(mode: int, said_by_other: str, name: str) -> None:
    """Who may only send, or only receive, has a channel for that."""
    async with fresh(name, mode=mode) as channel:
        await channel.send(b"ours", priority=1)
        with python(AS_SOMEBODY, f"posix-mq:{name}", "0", "{}") as other:
            assert said(other).startswith(said_by_other)


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user, and only root can become one")
async def test_another_user_can_not_remove_it(name: str) -> None:
    """The error says so on closing, and the queue stays."""
    async with fresh(name, mode=0o666) as channel:
        with python(AS_SOMEBODY, f"posix-mq:{name}", "0", "{'unlink': True}") as other:
            said(other)
            assert "AccessDenied" in said(other)
        async with aipc.open_channel(f"posix-mq:{name}"):
            assert channel.extra(ChannelAttribute.messages) == 0


async def test_leak_check_sees_queues(name: str) -> None:
    before = kernel_objects()
    async with fresh(name):
        seen = kernel_objects() - before
    assert seen == {f"POSIX message queue {name[1:]}"} or (os.getuid() != 0 and not os.path.ismount("/dev/mqueue"))
    assert kernel_objects() == before


async def test_to_c(c_peer: str, name: str) -> None:
    async with fresh(name) as channel:
        with anyio.fail_after(10):
            await channel.send(b"later", priority=1)
            await channel.send(b"for C", priority=9)
            assert run(c_peer, "receive", name) == "9 for C\n"
            assert run(c_peer, "receive", name) == "1 later\n"


async def test_to_c_that_waits(c_peer: str, name: str) -> None:
    async with fresh(name) as channel:
        with process(c_peer, "receive", name) as peer, anyio.fail_after(10):
            await channel.send(b"at last", priority=5)
            assert said(peer) == "5 at last"


async def test_from_c(c_peer: str, name: str) -> None:
    async with fresh(name) as channel:
        with anyio.fail_after(10):
            run(c_peer, "send", name, "5", "from C")
            run(c_peer, "send", name, "6", "")
            message = await channel.receive_message()
            assert (message.data, message.priority) == (b"", 6)
            message = await channel.receive_message()
            assert (message.data, message.priority) == (b"from C", 5)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, run, c_peer, "send", name, "7", "awaited")
                assert await channel.receive() == b"awaited"


async def test_c_that_waits_for_room(c_peer: str, name: str) -> None:
    """Its message takes the place of the one that is received, and a task that waits for room is not passed over for ever."""
    async with fresh(name, max_messages=1) as channel:
        with anyio.fail_after(10):
            await channel.send(b"full")
            with process(c_peer, "send", name, "0", "from C") as peer:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(channel.send, b"from here")
                    await settle()
                    got = {await channel.receive() for _ in range(3)}
                assert got == {b"full", b"from C", b"from here"}
                assert peer.wait(10) == 0


async def test_queue_made_by_c(c_peer: str, name: str) -> None:
    run(c_peer, "create", name, "2", "50")
    async with aipc.open_channel(f"posix-mq:{name}", unlink=True) as channel:
        assert channel.extra(ChannelAttribute.max_message_size) == 50
        assert fill(channel, bytes(50)) == 2


READER = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_channel(sys.argv[1]) as one, aipc.open_channel(sys.argv[1]) as other:
        async def receive(channel):
            async for message in channel:
                if message == b"stop":
                    await channel.send(b"stop")
                    raise asyncio.CancelledError
                print(message.decode(), flush=True)
        tasks = [asyncio.create_task(receive(channel)) for channel in (one, one, one, other, other)]
        print("ready", flush=True)
        await asyncio.wait(tasks)
asyncio.run(main())
"""


async def test_many_readers_miss_nothing(name: str) -> None:
    """Two processes of five tasks each on one queue: an edge wakes them all, one has the message, the rest wait on.

    Each message is sent only when the one before has been received: a lost wake-up would leave it there for ever.
    """
    sent = 300
    with ExitStack() as stack:
        async with fresh(name) as channel:
            readers = [stack.enter_context(python(READER, f"posix-mq:{name}")) for _ in range(2)]
            assert [said(reader) for reader in readers] == ["ready", "ready"]
            with anyio.fail_after(30):
                for number in range(sent):
                    await channel.send(b"%d" % number)
                    while number % 7 and channel.extra(ChannelAttribute.messages):
                        await anyio.lowlevel.checkpoint()
                while channel.extra(ChannelAttribute.messages):
                    await anyio.lowlevel.checkpoint()
                await channel.send(b"stop")
                got = Counter[str]()
                for reader in readers:
                    while line := said(reader):
                        got[line] += 1
            assert got == Counter(str(number) for number in range(sent))
