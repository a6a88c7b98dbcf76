"""`aipc cat` and `aipc listen`: two channels joined, or one with the input and output, or with a command's."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import signature
from time import monotonic
from typing import Annotated
from urllib.parse import urlencode

import anyio
import typer

import aipc
from aipc._address import parse
from aipc._io.loop import backend
from aipc._opening.openers import CHANNELS, LISTENERS, opener_of

from . import ending, streams, table
from .messages import AS_JSON, URL, print_messages

Read = Callable[[], Awaitable[bytes]]
Write = Callable[[bytes], Awaitable[None]]
_EVERY = 0.5


class Meter:
    """Counts bytes, and shows them on a terminal, on its error stream."""

    def __init__(self) -> None:
        self._bytes = 0
        self._start = self._shown = monotonic()
        self._shows = sys.stderr.isatty() and not sys.stdout.isatty()

    def count(self, data: bytes) -> None:
        """Count what went over."""
        self._bytes += len(data)
        if self._shows and monotonic() - self._shown > _EVERY:
            self.show()

    def show(self, end: str = "") -> None:
        """Show the line."""
        if self._shows:
            self._shown = monotonic()
            rate = self._bytes / max(self._shown - self._start, 1e-9)
            text = f"\r{table.number_of_bytes(self._bytes)}, {table.number_of_bytes(int(rate))}/s\033[K{end}"
            print(text, end="", file=sys.stderr, flush=True)


def raw(url: str) -> str:
    """The URL with framing=none, if the channel is a stream of bytes and the URL says nothing of framing."""
    address = parse(url)
    if address.scheme not in CHANNELS or "framing" in address.options:
        return url
    if "framing" not in signature(opener_of(CHANNELS, address)).parameters:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'framing': 'none'})}"


def cat(
    url: URL,
    other: Annotated[str | None, typer.Argument(metavar="URL", help="A second channel, instead of input and output.")] = None,
) -> None:
    """Join a channel with input and output, or with another.

    Bytes as they come, unless the URL has a framing. On a terminal it shows how much went over. It ends when the channel ends.
    """
    backend.run("asyncio", _cat, url, other)


async def _cat(url: str, other: str | None) -> None:
    meter = Meter()
    async with aipc.open_channel(raw(url)) as channel:
        if other is None:
            await join_terminal(channel, meter)
        else:
            async with aipc.open_channel(raw(other)) as second:
                await join(channel, second, meter)
    meter.show("\n")


async def join_terminal(channel: aipc.Channel, meter: Meter) -> None:
    """Copy the input to the channel, and the channel to the output, until the channel ends; at the input's end, end sending."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_copy_input, channel, meter)
        if await _copy(channel.receive, streams.write, meter):
            tasks.cancel_scope.cancel()


async def _copy_input(channel: aipc.Channel, meter: Meter) -> None:
    while data := await streams.read():
        try:
            await channel.send(data)
        except aipc.UnsupportedOperation:
            return  # a channel that only receives
        meter.count(data)
    await _end(channel)


async def join(one: aipc.Channel, other: aipc.Channel, meter: Meter) -> None:
    """Copy both ways until both have ended; a way that a channel does not have has ended."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_forward, one, other, meter)
        await _forward(other, one, meter)


async def _forward(source: aipc.Channel, sink: aipc.Channel, meter: Meter) -> None:
    await _copy(source.receive, sink.send, meter)
    await _end(sink)


async def _copy(read: Read, write: Write, meter: Meter) -> bool:
    """Copy until the source ends. False if that way does not exist."""
    try:
        while True:
            data = await read()
            await write(data)
            meter.count(data)
    except aipc.UnsupportedOperation:
        return False
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return True


async def _end(channel: aipc.Channel) -> None:
    with suppress(
        aipc.UnsupportedOperation, anyio.BrokenResourceError, anyio.ClosedResourceError
    ):  # it can't say so, or is gone
        await channel.send_eof()


def listen(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to listen.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND", help="To run for each connection.")] = None,
    once: Annotated[bool, typer.Option("-1", "--once", help="End after the first connection.")] = False,
    as_json: AS_JSON = False,
) -> None:
    """Listen: print each message, or run a command.

    The command's input and output are the connection: bytes as they come, unless the URL has a framing.
    """
    if command and as_json:
        raise typer.BadParameter("goes with printing only", param_hint="--json")
    backend.run("asyncio", _listen, url, command or [], once, as_json)


async def _listen(url: str, command: list[str], once: bool, as_json: bool) -> None:
    unread = anyio.CancelScope()

    async def handle(channel: aipc.Channel) -> None:
        try:
            if command:
                async with aipc.popen(command, "r+") as child:
                    await join(channel, child, Meter())
            else:
                await print_messages(channel, as_json=as_json)
        except BrokenPipeError:  # nobody reads the output
            unread.cancel()
        except (aipc.AipcError, anyio.BrokenResourceError) as error:
            ending.said(ending.text_of(error), ending.FAILED)
            if once:
                raise

    address = parse(url)
    chosen = raw(url) if command and address.scheme in LISTENERS else url
    async with aipc.listen(chosen) as listener:
        with unread:
            if once:
                async with await listener.accept() as channel:
                    await handle(channel)
            else:
                await listener.serve(handle)
    if unread.cancel_called:
        raise BrokenPipeError
