"""What the workers of the pools' tests run when they misbehave, or have to wait."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio

import aipc


async def misbehave(channel: Any) -> None:
    """Answer each message with this process's number; or as it says, with something that is no answer."""
    async for message in channel:
        if message == b"bytes":
            os.write(channel.extra(aipc.ChannelAttribute.descriptor), b"\xff" * 4)  # as a stray print to the descriptor would
            await anyio.sleep_forever()
        elif message == b"no number":
            await channel._transport.send(b"bad")
            await anyio.sleep_forever()
        elif message == b"half":
            channel.send(bytes(12 << 20)).send(None)  # until it would wait
            os.kill(os.getpid(), signal.SIGKILL)
        elif message == b"close":
            await channel.aclose()
            await anyio.sleep_forever()
        elif message == b"last words":
            channel.send_nowait(message)
            os.kill(os.getpid(), signal.SIGKILL)
        elif message == b"silence":
            await anyio.sleep_forever()
        await channel.send(b"%d" % os.getpid())


async def wait_for_file(channel: aipc.Channel, path: str) -> None:
    """Answer each message when there is such a file."""
    async for message in channel:
        while not os.path.exists(path):
            await anyio.sleep(1e-3)
        await channel.send(bytes(message))


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def pid() -> int:
    return os.getpid()


async def double_later(number: int) -> int:
    await anyio.sleep(0)
    return number * 2


def refuse(text: str) -> None:
    raise ValueError(text)


def leave() -> None:
    raise SystemExit(3)


def block(path: str) -> None:
    """Say that it has begun; then never return."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while True:
        signal.pause()


def content(size: int) -> bytes:
    return bytes(size)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class NeverImported:
    """Unpickling it fails, as importing a broken module does; but not in the process with that number."""

    def __reduce__(self) -> tuple[Any, ...]:
        return fail_elsewhere, (os.getpid(),)


def fail_elsewhere(number: int) -> None:
    if os.getpid() != number:
        raise ImportError("no module of that name, in a worker")


async def take(channel: aipc.Channel, argument: object) -> None:
    await anyio.sleep_forever()


async def answer_by(channel: Any, way: str) -> None:
    """Answer each message with itself; receive it in this way."""
    while True:
        try:
            if way == "receive_many":
                (message,) = await channel.receive_many()
            elif way == "receive_message":
                message = (await channel.receive_message()).data
            elif way == "receive_view":
                async with channel.receive_view() as view:
                    message = bytes(view)
            elif way == "receive_nowait":
                message = channel.receive_nowait()
            else:
                message = await channel.receive()
        except anyio.WouldBlock:
            await anyio.sleep(1e-3)
        except anyio.EndOfStream:
            return
        else:
            await channel.send(message)
