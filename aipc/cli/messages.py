"""`aipc send` and `aipc receive`: single messages over any channel."""

from __future__ import annotations

import base64
import json
import os
from typing import Annotated, Any

import anyio
import typer

import aipc
from aipc._io.loop import backend

from . import streams

URL = Annotated[str, typer.Argument(metavar="URL", help="The channel; its options in the query.")]
COUNT = Annotated[int | None, typer.Option("-n", min=1, help="End after this number of messages.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print each message as JSON, with what came with it.")]
_META = ("type", "priority", "sender", "credentials", "truncated")


def send(
    url: URL,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The message; - or nothing: each line of the input is one.")
    ] = None,
    type: Annotated[int | None, typer.Option(help="Its type (sysv-mq:, jobs:).")] = None,
    priority: Annotated[int | None, typer.Option(help="Its priority (posix-mq:, jobs:).")] = None,
    delay: Annotated[float | None, typer.Option(help="Seconds until it may be received (jobs:).")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="All of the input is one message.")] = False,
) -> None:
    """Send messages."""
    meta = {"type": type, "priority": priority, "delay": delay}
    given = {name: value for name, value in meta.items() if value is not None}
    backend.run("asyncio", _send, url, None if text == "-" else text, whole, given)


async def _send(url: str, text: str | None, whole: bool, meta: dict[str, Any]) -> None:
    async with aipc.open_channel(url) as channel:
        if text is not None:
            await channel.send(os.fsencode(text), **meta)
        elif whole:
            await channel.send(await streams.whole(), **meta)
        else:
            async for line in streams.lines():
                await channel.send(line, **meta)


def receive(
    url: URL,
    count: COUNT = None,
    as_json: AS_JSON = False,
    type: Annotated[int | None, typer.Option(help="Only this type; -N: the lowest up to N (sysv-mq:, jobs:).")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="No line feed after a message.")] = False,
) -> None:
    """Receive messages, and print each on a line.

    Until the other side ends, or for ever where a channel has no end.
    """
    selection = {} if type is None else {"type": type}
    backend.run("asyncio", _receive, url, count, as_json, raw, selection)


async def _receive(url: str, count: int | None, as_json: bool, raw: bool, selection: dict[str, Any]) -> None:
    async with aipc.open_channel(url) as channel:
        await print_messages(channel, count, as_json=as_json, raw=raw, **selection)


async def print_messages(
    channel: aipc.Channel, count: int | None = None, *, as_json: bool = False, raw: bool = False, **selection: Any
) -> None:
    """Print messages until the end of the channel, at most `count`."""
    while count is None or count > 0:
        try:
            message = await channel.receive_message(**selection)
        except anyio.EndOfStream:
            return
        await streams.write(text_of(message) if as_json else message.data if raw else message.data + b"\n")
        for fd in message.fds:
            os.close(fd)
        count = None if count is None else count - 1


def text_of(message: aipc.Message) -> bytes:
    """A message as a line of JSON: its data as text, or else in base64, and the metadata that the mechanism has."""
    shown: dict[str, Any] = data_of(message.data)
    for name in _META:
        if value := getattr(message, name):
            shown[name] = value._asdict() if isinstance(value, aipc.Credentials) else value
    return json.dumps(shown, default=str, ensure_ascii=False).encode() + b"\n"


def data_of(data: bytes) -> dict[str, Any]:
    """Data for JSON: as `data` if it is text in UTF-8, or else as `base64`."""
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
