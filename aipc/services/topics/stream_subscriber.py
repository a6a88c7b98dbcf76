"""A subscriber's connection over sockets."""

from __future__ import annotations

from typing import Any

from aipc._opening.openers import open_channel
from aipc.abc import Channel
from aipc.exceptions import ProtocolError

from .frames import decode, encode_request
from .subscriber import Received, Subscriber


class StreamConnection:
    """Counts by the numbers in the frames. `number` is the last one so far."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number

    async def read(self) -> list[Received]:
        """Return the messages that have come. Cancelled: nothing was consumed."""
        return [self._received(frame) for frame in await self._channel.receive_many()]

    def _received(self, frame: bytes) -> Received:
        number, topic, data = decode(frame)
        lost = number - self._number - (topic is not None)
        if lost < 0:
            raise ProtocolError(f"a publisher's message {number} came after {self._number}")
        self._number = number
        return Received(topic, data, lost)

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.aclose()


async def subscribe_to(url: str, patterns: tuple[str, ...], **options: Any) -> Subscriber:
    """Subscribe at `url`, whether or not a publisher is there yet."""
    request = encode_request(patterns)

    async def connect() -> StreamConnection:
        channel = await open_channel(url, **options)
        try:
            await channel.send(request)
            first = decode(await channel.receive())
            if first.topic is not None:
                raise ProtocolError(f"{url}: a publisher's first message must be a count")
        except BaseException:
            await channel.aclose()
            raise
        return StreamConnection(channel, first.number)

    subscriber = Subscriber(url, connect)
    await subscriber.connect()
    return subscriber
