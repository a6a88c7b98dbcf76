"""Typed messages over any channel: encoded and checked by msgspec."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, overload

import anyio.abc
import msgspec

from aipc.abc import Channel, ChannelStatistics
from aipc.exceptions import ProtocolError

from .codecs import Codec, decoder, encoder

T = TypeVar("T")
Selection = tuple[tuple[str, Any], ...]


class TypedChannel(anyio.abc.ObjectStream[T], Generic[T]):
    """A channel of values of one type. Made by `aipc.typed`; its methods, errors and cancellation are the channel's.

    In addition: TypeError for a value that the codec cannot write; nothing was sent. ProtocolError for a message that does not have
    the type; it was consumed, and the next one can be received.
    """

    def __init__(self, channel: Channel, type: Any, codec: Codec = "msgpack") -> None:
        self._encode = encoder(codec).encode
        self._decode = decoder(codec, type).decode
        self._channel = channel
        self._type = type
        self._left: defaultdict[Selection, deque[bytes]] = defaultdict(
            deque
        )  # by `receive_many`: one of another type, and later ones

    @property
    def channel(self) -> Channel:
        """The channel of the messages."""
        return self._channel

    async def send(self, item: T, **meta: Any) -> None:
        """Send one value. `meta` depends on the mechanism, such as `priority`. Cancelled: the whole message was sent, or nothing."""
        await self._channel.send(self._encode(item), **meta)

    def send_nowait(self, item: T, **meta: Any) -> None:
        """`send` without waiting. WouldBlock: nothing was sent."""
        self._channel.send_nowait(self._encode(item), **meta)

    async def send_many(self, items: Iterable[T], **meta: Any) -> None:
        """Send values in order. Cancelled, or a value is refused: the values before some point were sent, none after it."""
        await self._channel.send_many(map(self._encode, items), **meta)

    async def receive(self, **selection: Any) -> T:
        """Receive the next value. Cancelled: nothing was consumed."""
        left = self._left_for(selection)
        return self._value(await self._channel.receive(**selection) if left is None else left)

    def receive_nowait(self, **selection: Any) -> T:
        """`receive` without waiting, or WouldBlock."""
        left = self._left_for(selection)
        return self._value(self._channel.receive_nowait(**selection) if left is None else left)

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[T]:
        """Receive all values that have arrived: at least one, at most `max_messages`. Cancelled: nothing was consumed.

        ProtocolError if the first message does not have the type; a later one's error is raised once it is the first.
        """
        first = self._left_for(selection)
        messages = [first] if first is not None else await self._channel.receive_many(max_messages, **selection)
        values = []
        for number, message in enumerate(messages):
            try:
                values.append(self._value(message))
            except ProtocolError:
                left = messages[number:] if values else messages[1:]
                self._left[_key(selection)].extend(left)
                if values:
                    break
                raise
        return values

    def _left_for(self, selection: Mapping[str, Any]) -> bytes | None:
        """Return a message that an earlier `receive_many` with the same selection left."""
        left = self._left and self._left[_key(selection)]
        return left.popleft() if left else None

    def _value(self, data: bytes) -> T:
        try:
            value: T = self._decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            name = getattr(self._type, "__name__", self._type)
            raise ProtocolError(f"{self._channel!r}: a message of {len(data):,} bytes is no {name}: {error}") from error
        return value

    async def send_eof(self) -> None:
        await self._channel.send_eof()

    async def aclose(self) -> None:
        """Close the channel. Idempotent, also under cancellation."""
        await self._channel.aclose()

    def statistics(self) -> ChannelStatistics:
        """Return the channel's traffic so far."""
        return self._channel.statistics()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._channel.extra_attributes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {getattr(self._type, '__name__', self._type)} over {self._channel!r}>"


@overload
def typed(channel: Channel, type: type[T], codec: Codec = "msgpack") -> TypedChannel[T]: ...
@overload
def typed(channel: Channel, type: Any, codec: Codec = "msgpack") -> TypedChannel[Any]: ...
def typed(channel: Channel, type: Any, codec: Codec = "msgpack") -> TypedChannel[Any]:
    """Use `channel` for values of `type`: any type that msgspec supports, such as a Struct, a dataclass, `int | str`, `list[float]`.

    Codec "msgpack", or "json", which also works with `framing=lines`. TypeError for a type that msgspec does not support. A field of
    type `memoryview` shows the message's own bytes (MessagePack), `bytes` copies them once.
    """
    return TypedChannel(channel, type, codec)


def _key(selection: Mapping[str, Any]) -> Selection:
    return tuple(sorted(selection.items()))
