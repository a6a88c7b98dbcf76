"""`aipc publish` and `aipc subscribe`."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

import aipc
from aipc._io.loop import backend

from . import streams
from .messages import AS_JSON, COUNT, data_of


def publish(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to listen for subscribers.")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.")],
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The message; - or nothing: each line of the input is one.")
    ] = None,
    subscribers: Annotated[int, typer.Option(min=0, help="Wait for this number of subscribers first.")] = 1,
) -> None:
    """Publish messages under a topic."""
    backend.run("asyncio", _publish, url, topic, None if text == "-" else text, subscribers)


async def _publish(url: str, topic: str, text: str | None, subscribers: int) -> None:
    async with aipc.open_publisher(url) as publisher:
        await publisher.wait_subscribers(subscribers)
        if text is not None:
            await publisher.publish(topic, os.fsencode(text))
            return
        async for line in streams.lines():
            await publisher.publish(topic, line)


def subscribe(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the publisher listens; it need not exist yet.")],
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="PATTERN", help="Topics, as file names in a shell; none: all.")
    ] = None,
    count: COUNT = None,
    as_json: AS_JSON = False,
) -> None:
    """Print published messages, each with its topic.

    Lost messages are reported on the error stream. It waits for a publisher, also for a new one.
    """
    backend.run("asyncio", _subscribe, url, patterns or [], count, as_json)


async def _subscribe(url: str, patterns: list[str], count: int | None, as_json: bool) -> None:
    async with aipc.open_subscriber(url, *patterns) as messages:
        async for message in messages:
            if message.missed and not as_json:
                print(f"aipc: {message.missed} messages lost", file=sys.stderr)
            await streams.write_line(_shown(message, as_json))
            count = None if count is None else count - 1
            if count == 0:
                return


def _shown(message: aipc.TopicMessage, as_json: bool) -> bytes:
    if not as_json:
        return f"{message.topic} ".encode(errors="surrogateescape") + message.data
    shown = {"topic": message.topic, **data_of(message.data), "missed": message.missed, "resumed": message.resumed}
    return json.dumps(shown, ensure_ascii=False).encode()
