"""What the workers of these tests run: functions at the top of a module, as `aipc.spawn` wants them."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import anyio
import sniffio

import aipc
from aipc._io.loop import backend
from aipc.testing.leaks import descriptors as descriptors


class Unpicklable(Exception):
    """Can be pickled, and not unpickled."""

    def __init__(self, one: object, other: object) -> None:
        super().__init__("it can't travel")


async def echo(channel: aipc.Channel, *args: Any) -> tuple[Any, ...]:
    """Send back what comes, until the end: the arguments."""
    async for message in channel:
        await channel.send(message)
    return args


async def loop_name(channel: aipc.Channel) -> str:
    assert sniffio.current_async_library() == backend.running_name().replace("uvloop", "asyncio")
    return backend.running_name()


async def fail(channel: aipc.Channel, error: BaseException) -> None:
    """Wait for the first message, or the end; then raise."""
    with suppress(anyio.EndOfStream):
        await channel.receive()
    raise error


async def fail_unpicklably(channel: aipc.Channel) -> None:
    raise Unpicklable(1, 2)


async def value(channel: aipc.Channel, code: str) -> Any:
    """What the expression gives."""
    return eval(code)


async def stay(channel: aipc.Channel, path: str) -> None:
    """Stay until cancelled; then write that down, after a while."""
    await channel.send(b"ready")
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
        with open(path, "w") as file:
            file.write("cleaned up")


async def print_and_stay(channel: aipc.Channel) -> None:
    """Leave something in the buffer of standard output."""
    print("from the worker")
    await channel.send(b"printed")
    await anyio.sleep_forever()


async def stubborn(channel: aipc.Channel) -> None:
    """Block the loop, and so heed nothing."""
    await channel.send(b"ready")
    while True:
        time.sleep(60)


async def with_grandchild(channel: aipc.Channel) -> None:
    """A forked grandchild holds the channel's other end."""
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        while True:
            signal.pause()
    await channel.send(b"%d" % pid)
    await anyio.sleep_forever()


async def answer(channel: aipc.Channel) -> None:
    """Answer each message with this process's number and the message; "die" kills, "close" closes, "slow" takes a while."""
    async for message in channel:
        if message.startswith(b"die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if message == b"close":
            await channel.aclose()
            await anyio.sleep_forever()
        if message.startswith(b"fail"):
            raise ValueError(message)
        if message.startswith(b"slow"):
            await anyio.sleep(0.1)
        await channel.send(b"%d %s" % (os.getpid(), bytes(message)))


async def die_once(channel: aipc.Channel, path: str) -> None:
    """Die at the first message, if no worker has done so before; else answer."""
    async for message in channel:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            await channel.send(message)
        else:
            os.kill(os.getpid(), signal.SIGKILL)


async def end(channel: aipc.Channel, path: str, status: str) -> None:
    """Leave a mark, and end: well, or by an error."""
    with open(path, "a") as file:
        file.write("x")
    if status == "bad":
        raise ValueError("as asked")


async def descriptor(channel: aipc.Channel) -> None:
    """Write to the descriptor that comes with the first message."""
    message = await channel.receive_message()
    (fd,) = message.fds
    os.write(fd, b"from the worker")
    os.close(fd)


async def leave(channel: aipc.Channel, how: str, status: int) -> None:
    if how == "abort":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    if how == "KeyboardInterrupt":
        sys.stderr.close()
        raise KeyboardInterrupt
    if how == "os._exit":
        os._exit(status)
    if how == "after a while":
        with suppress(anyio.EndOfStream):
            await channel.receive()
    sys.exit(status)


async def serve(channel: aipc.Channel, url: str) -> None:
    """A service in a worker, which hears of SIGTERM itself."""

    async def handle(connection: aipc.Channel) -> None:
        async for message in connection:
            await connection.send(b"begun")
            await service.stopping()
            await connection.send(message)

    async with aipc.service() as service:
        await service.listen(url, handle)
        await channel.send(b"ready")


def plain(channel: aipc.Channel) -> int:
    return 3


async def write_into_second(channel: aipc.Channel) -> None:
    """Receive a plain message, then one with a descriptor, and write into that."""
    await channel.receive()
    message = await channel.receive_message()
    for fd in message.fds:
        os.write(fd, message.data)
        os.close(fd)
