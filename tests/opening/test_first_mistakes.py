"""What newcomers do first, and what the errors answer."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle
from aipc.transports import plain_bytes

from ..peers import process as started
from ..peers import run
from ..subjects import new_name

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("framing", ["u32", "u64"])
@pytest.mark.parametrize("sent", [b"hello, world\n", b"hell"])
async def test_plain_text(framing: str, sent: bytes, place: Path) -> None:
    if framing == "u64" and len(sent) < 8:
        sent *= 2
    async with aipc.listen(f"unix:{place}/socket?framing={framing}") as listener:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{place}/socket")
            peer.sendall(sent)
            async with await listener.accept() as channel:
                with pytest.raises(aipc.MessageTooLarge, match=r"announced .* bytes.*read 'hell'.*framing=none"):
                    await channel.receive()


async def test_integers() -> None:
    reading, writing = os.pipe()
    os.write(writing, (5).to_bytes(4, "little"))
    os.close(writing)
    async with aipc.open_channel(f"fd:{reading}") as channel:
        with pytest.raises(aipc.MessageTooLarge, match=r"other way round it is 5.*framing=u32le.*framing=fixed:4"):
            await channel.receive()


async def test_bytes_that_mean_nothing() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"\xfe\x80\x01\xff")
    os.close(writing)
    async with aipc.open_channel(f"fd:{reading}") as channel:
        with pytest.raises(aipc.MessageTooLarge) as caught:
            await channel.receive()
        assert "read" not in str(caught.value)


async def test_less_than_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once; and not if the rest comes, or if nobody has sent anything."""
    monkeypatch.setattr(plain_bytes, "PATIENCE", 0.05)
    warned = anyio.Event()
    monkeypatch.setattr(logging.getLogger("aipc"), "warning", lambda *given: (warned.set(), told.append(given)))
    told: list[tuple[object, ...]] = []
    reading, writing = os.pipe()
    async with aipc.open_channel(f"fd:{reading}") as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(channel.receive)
        await anyio.wait_all_tasks_blocked()
        os.write(writing, b"hi\n")
        with anyio.fail_after(10):
            await warned.wait()
        tasks.cancel_scope.cancel()
    os.close(writing)
    text = str(told[0][0]) % told[0][1:]
    assert "b'hi\\n' came" in text
    assert "framing=none" in text
    assert len(told) == 1


async def test_the_rest_of_a_length_comes_late(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    waited = anyio.Event()

    async def wait(_: float) -> None:
        await waited.wait()

    monkeypatch.setattr(plain_bytes, "sleep", wait)
    receiver, sender = os.pipe()
    async with aipc.open_channel(f"fd:{receiver}") as channel, anyio.create_task_group() as tasks:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await channel.receive())

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        os.write(sender, b"\0\0\0")
        await settle()
        os.write(sender, b"\2hi")
    assert got == [b"hi"]
    waited.set()
    await settle()
    assert not [record for record in caplog.records if record.name == "aipc"]
    os.close(sender)


async def test_missing_objects(key: str, place: Path) -> None:
    name = new_name()
    openers: dict[str, Callable[[], object]] = {
        "create=1 makes it": lambda: aipc.open_channel(f"sysv-mq:{key}"),
        "create=1 makes it ": lambda: aipc.open_channel(f"posix-mq:{name}"),
        "create=1 makes it  ": lambda: aipc.open_channel(f"fifo:{place}/fifo"),
        "create=1 makes it:": lambda: aipc.open_lock(f"sysv-sem:{key}"),
        "create=1 makes it: ": lambda: aipc.open_lock(f"posix-sem:{name}"),
        "create=1 makes it:  ": lambda: aipc.open_lock(f"flock:{place}/lock", create=False),
        "create=1 makes it;": lambda: aipc.open_lock(f"fcntl:{place}/lock", create=False),
        "create=1 makes it; ": lambda: aipc.SysVSemaphoreSet(key),
        "create=1 makes it;  ": lambda: aipc.Event(key, create=False),
        "aipc.listen makes it": lambda: aipc.open_channel(f"unix:{place}/socket"),
        "aipc.listen makes it ": lambda: aipc.open_channel(f"unix+seqpacket:{place}/socket"),
        "aipc.listen makes it  ": lambda: aipc.open_channel(f"shm:{place}/socket"),
        "peer makes it": lambda: aipc.open_channel(f"unix+dgram:{place}/socket"),
        "its directory must exist": lambda: aipc.open_lock(f"flock:{place}/no/lock"),
        "its directory must exist ": lambda: aipc.listen(f"unix:{place}/no/socket"),
    }
    for hint, opener in openers.items():
        with pytest.raises(aipc.ObjectMissing, match=hint.rstrip(" :;")) as caught:
            await opener()  # type: ignore[misc]
        assert str(caught.value).count(hint.rstrip(" :;")) == 1
    for segment in (
        lambda: aipc.SharedMemory.open(name),
        lambda: aipc.SysVSharedMemory.open(key),
        lambda: aipc.MappedFile.open(place / "file"),
    ):
        with pytest.raises(aipc.ObjectMissing, match=r"create\(\) makes it"):
            segment()
    with pytest.raises(aipc.ObjectMissing) as caught:
        aipc.MappedFile.create(place / "no" / "file", 10)
    assert "create" not in str(caught.value)


async def test_objects_that_are_there(key: str) -> None:
    name = new_name()
    async with (
        aipc.open_channel(f"sysv-mq:{key}?create=1&unlink=1"),
        aipc.open_channel(f"posix-mq:{name}?create=1&unlink=1"),
        aipc.open_lock(f"sysv-sem:{key}?create=1&unlink=1"),
        aipc.open_lock(f"posix-sem:{name}?create=1&unlink=1"),
    ):
        for opening in (
            aipc.open_channel(f"sysv-mq:{key}?exclusive=1"),
            aipc.open_channel(f"posix-mq:{name}?exclusive=1"),
            aipc.open_lock(f"sysv-sem:{key}?exclusive=1"),
            aipc.open_lock(f"posix-sem:{name}?exclusive=1"),
            aipc.SysVSemaphoreSet(key, exclusive=True),
        ):
            with pytest.raises(aipc.ObjectExists, match=r"what a crashed run left.*aipc remove"):
                await opening
    with (
        aipc.SharedMemory.create(name, 10, unlink=True),
        pytest.raises(aipc.ObjectExists, match=r"open_or_create.*aipc remove"),
    ):
        aipc.SharedMemory.create(name, 10)


UNGUARDED = """
import asyncio, aipc

async def work(channel):
    pass

async def main():
    async with aipc.spawn(work):
        pass

asyncio.run(main())
"""


@pytest.mark.costly
async def test_spawn_without_the_guard(place: Path) -> None:
    (place / "script.py").write_text(UNGUARDED)
    with started(sys.executable, str(place / "script.py")) as script:
        _, _ = script.communicate(timeout=60)
    assert script.returncode == 1


@pytest.mark.costly
def test_what_spawn_without_the_guard_says(place: Path) -> None:
    (place / "script.py").write_text(UNGUARDED.replace("asyncio.run(main())", "") + RUN)
    assert "if __name__ == '__main__'" in run(sys.executable, str(place / "script.py"))


RUN = """
try:
    asyncio.run(main())
except RuntimeError as error:
    if __name__ == "__main__":
        print(error)
    else:
        raise
"""


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "dgram", "shm", "pipe"])
async def test_a_pair_after_a_fork(kind: str) -> None:
    ours, theirs = aipc.pipe()[::-1] if kind == "pipe" else aipc.channel_pair(kind)  # type: ignore[call-overload]
    async with ours, theirs:
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                ours.send_nowait(b"x")
            except aipc.ForkedError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(writing)
        said = os.read(reading, 4096).decode()
        os.close(reading)
        assert "aipc.spawn" in said
        assert "fd:N" in said


async def test_nothing_there_and_the_end(place: Path) -> None:
    for pair in (aipc.pipe(), aipc.channel_pair("stream"), aipc.channel_pair("seqpacket"), aipc.channel_pair("shm")):
        receiver, sender = pair
        async with receiver, sender:
            with pytest.raises(anyio.WouldBlock, match="await receive"):
                receiver.receive_nowait()
            await sender.aclose()
            with pytest.raises(anyio.EndOfStream, match="the other side sends no more"):
                await receiver.receive()
    async with aipc.open_lock(f"flock:{place}/lock") as one, aipc.open_lock(f"flock:{place}/lock") as other, one:
        with pytest.raises(anyio.WouldBlock, match="taken; await acquire"):
            other.acquire_nowait()


async def test_primitives_that_are_taken(key: str) -> None:
    async with aipc.Condition(key, unlink=True) as condition, condition, aipc.Condition(key) as other:
        with pytest.raises(anyio.WouldBlock, match="taken; await acquire"):
            other.acquire_nowait()
    async with aipc.RWLock(key, unlink=True) as lock, lock.reader, aipc.RWLock(key) as other:
        with pytest.raises(anyio.WouldBlock, match="taken; await acquire"):
            other.writer.acquire_nowait()
    async with aipc.SysVSemaphoreSet("sysv-sem:private", values=[0]) as row:
        with pytest.raises(anyio.WouldBlock, match="await operate"):
            row.operate_nowait([(0, -1)])


def fill(sender: aipc.Channel) -> None:
    while True:
        sender.send_nowait(bytes(10_000))


async def test_a_full_pipe() -> None:
    receiver, sender = aipc.pipe(framing="none")
    async with receiver, sender:
        with pytest.raises(anyio.WouldBlock, match=r"no room to send now; await send\(\)"):
            fill(sender)


async def test_a_pipe_sign_without_a_shell() -> None:
    with pytest.raises(aipc.AddressError, match=r"shell=True.*aipc\.pipeline"):
        await aipc.popen("ls | wc")
    async with aipc.popen("echo '|' \\|", framing="lines") as child:
        assert await child.receive() == b"| |"
    async with aipc.popen("echo one | tr a-z A-Z", framing="lines", shell=True) as child:
        assert await child.receive() == b"ONE"


async def test_an_opening_that_nobody_awaited() -> None:
    opening = aipc.open_channel("sysv-mq:private")
    with pytest.raises(AttributeError, match="send: this is not open yet: await it"):
        await opening.send(b"x")
    with pytest.raises(TypeError, match="await it"):
        async for _ in opening:
            pass
    assert not hasattr(opening, "aclose")
    assert not hasattr(opening, "__enter__")  # by which libraries tell what `with` takes


async def test_what_is_open_as_an_argument_of_a_worker(place: Path, key: str) -> None:
    async with (
        aipc.open_lock(f"flock:{place}/lock") as lock,
        aipc.Event(key, unlink=True) as event,
        aipc.listen(f"unix:{place}/socket") as listener,
        aipc.open_channel(f"unix:{place}/socket") as channel,
    ):
        with aipc.SharedMemory.create(new_name(), 10, unlink=True) as segment:
            for thing in (lock, event, listener, channel, segment, aipc.open_lock("flock:/x"), aipc.Event(None)):
                with pytest.raises(TypeError, match="give the other process its URL, to open it there"):
                    await aipc.spawn(print_it, thing)
                with pytest.raises(TypeError, match="can't be pickled or copied"):
                    copy.copy(thing)
        async with pickle.loads(pickle.dumps(aipc.Event(key))) as same:  # not open yet: its URL travels
            same.set()
        assert event.is_set()


async def print_it(channel: aipc.Channel, thing: object) -> None:
    print(thing)


def test_attributes_have_names() -> None:
    assert repr(aipc.ChannelAttribute.peer_pidfd) == "ChannelAttribute.peer_pidfd"
