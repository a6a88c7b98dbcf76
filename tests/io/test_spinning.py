"""A wait that spins, or has spun, keeps the same promises as one that parks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc._io.loop import backend
from aipc._io.loop.reactor import Reactor, reactor_of
from aipc._io.loop.spin import Spin
from aipc._io.readiness import Readiness
from aipc._io.waiter import Look
from aipc.testing.expect import settle

from ..peers import python, said

pytestmark = pytest.mark.anyio


async def receive_by_spinning(sender: aipc.Channel, receiver: aipc.Channel) -> None:
    """The message comes while the receiver spins: from then on it expects its peer to be quick."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.receive)
        await anyio.lowlevel.checkpoint()
        await sender.send(b"quick")


async def test_closed_after_a_spin() -> None:
    """The descriptor's number soon belongs to another object, which must not be waited for."""
    sender, receiver = aipc.channel_pair()
    await receive_by_spinning(sender, receiver)
    await receiver.aclose()
    await sender.aclose()
    other, another = aipc.channel_pair()
    async with other, another:
        with anyio.fail_after(10), pytest.raises(anyio.ClosedResourceError):
            await receiver.receive()


async def test_error_behind_good_messages_while_another_spins() -> None:
    """What is left of a read, here a frame too long, is found without asking the kernel."""
    sender, receiver = aipc.channel_pair()
    idle, idler = aipc.channel_pair()
    async with sender, receiver, idle, idler, anyio.create_task_group() as tasks:
        await receive_by_spinning(sender, receiver)
        raw = sender.extra(aipc.ChannelAttribute.descriptor)
        with open(raw, "wb", closefd=False, buffering=0) as file:
            file.write(b"\0\0\0\2ok\xff\xff\xff\xff")
        assert await receiver.receive() == b"ok"
        tasks.start_soon(idle.receive)
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(10), pytest.raises(aipc.MessageTooLarge):
            await receiver.receive()
        tasks.cancel_scope.cancel()


async def test_one_spins_at_a_time() -> None:
    """Many tasks that begin to wait at once do not each take turns of the loop from the others."""
    pairs = [aipc.channel_pair() for _ in range(20)]
    most = 0
    async with anyio.create_task_group() as tasks:
        for _, receiver in pairs:
            tasks.start_soon(receiver.receive)
        for _ in range(20):
            most = max(most, sum(receiver._handle.readable._fired is not None for _, receiver in pairs))  # type: ignore[attr-defined]
            await anyio.lowlevel.checkpoint()
        await settle()
        for sender, _ in pairs:
            await sender.send(b"")
    assert most <= 1
    for pair in pairs:
        for channel in pair:
            await channel.aclose()


@pytest.mark.usefixtures("all_features")
async def test_what_is_there_for_another_task_does_not_keep_the_loop(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a receiver of one type spins, there is a message of another: each look at the queue says yes, each try no."""
    here = reactor_of(backend.current())
    monkeypatch.setattr(Spin, "give_way", lambda _: None)  # also on a busy machine
    most = 0
    for _ in range(20):  # in one of them nothing else takes the processor for as long as a spin lasts
        async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True) as queue:
            await queue.send(b"another's", type=2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(queue.receive, type=1))
                turns = 0
                await anyio.lowlevel.checkpoint()
                while here.spin.active:
                    turns += 1
                    await anyio.lowlevel.checkpoint()
                most = max(most, turns)
                await queue.send(b"ours", type=1)
    assert most > 3


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """ "look" for each look of a wait; tests note what else happens."""
    order: list[str] = []
    look = Readiness._look

    def noted(waiting: Readiness, reactor: Reactor) -> Look:
        order.append("look")
        return look(waiting, reactor)

    monkeypatch.setattr(Readiness, "_look", noted)
    return order


async def test_a_task_that_is_ready_runs_before_the_first_look(order: list[str]) -> None:
    """As a server does that starts a task for each request. uvloop does not tell that it is ready; trio runs the two in either order."""

    async def answer(channel: aipc.Channel) -> None:
        order.append("answer")
        await channel.send(b"")

    one, other = aipc.channel_pair()
    async with one, other, anyio.create_task_group() as tasks:
        tasks.start_soon(answer, other)
        ready = reactor_of(backend.current()).others_ready
        assert ready is None if backend.running_name() == "uvloop" else ready()
        await one.receive()
    assert order[0] == "answer" or backend.running_name() == "trio"


@pytest.mark.parametrize("way", ["receive", "receive_many", "receive_message", "__anext__"])
async def test_who_has_sent_looks_at_once_on_uvloop(order: list[str], way: str) -> None:
    """The peer may answer; before, only another task's message could make it do so."""

    async def other() -> None:
        order.append("other")

    async def received(channel: aipc.Channel) -> list[str]:
        order.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await getattr(channel, way)()
        return order[:1]

    one, peer = aipc.channel_pair()
    async with one, peer, anyio.create_task_group() as tasks:
        tasks.start_soon(answer_each, peer)
        await one.send(b"first")
        assert await received(one) == ["look"] or backend.running_name() != "uvloop"
        await peer.send(b"third")
        await getattr(one, way)()
        tasks.start_soon(one.send, b"second")
        assert await received(one) == ["other"] or backend.running_name() == "trio"
        tasks.cancel_scope.cancel()


async def answer_each(channel: aipc.Channel) -> None:
    async for message in channel:
        await channel.send(message)


QUICK_CLIENTS = """
import select, socket, struct, sys
poll, socks = select.epoll(), {}
for _ in range(4):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
    socks[sock.fileno()] = sock
    poll.register(sock, select.EPOLLIN)
request = struct.pack(">I", 8) + bytes(8)
for sock in socks.values():
    sock.sendall(request)
last, run, longest, answers = 0, 0, 0, {fd: 0 for fd in socks}
for _ in range(20_000):
    for fd, _ in poll.poll():
        assert len(socks[fd].recv(100)) == len(request)
        answers[fd] += 1
        run = run + 1 if fd == last else 1
        longest, last = max(longest, run), fd
        socks[fd].sendall(request)
    if min(answers.values()) > 1000:
        break
print(longest, flush=True)
sys.stdin.readline()
"""


@pytest.mark.usefixtures("all_features")
async def test_one_with_a_quick_peer_does_not_keep_others_waiting(place: Path) -> None:
    """Each of four clients always has a request under way: none is answered forty times before another one is."""

    async def echo(channel: aipc.Channel) -> None:
        while True:
            await channel.send(await channel.receive())

    async with aipc.listen(f"unix:{place}/socket") as listener:
        with python(QUICK_CLIENTS, f"{place}/socket") as clients:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, echo)
                longest = int(await anyio.to_thread.run_sync(said, clients))
                tasks.cancel_scope.cancel()
    assert longest < 40
