"""The description of a mechanism for the checks of channels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

import anyio

from aipc.abc import Channel


@dataclass(frozen=True)
class ChannelSubject:
    """How to open a pair of channels, and what they can do.

    open_pair   opens two channels; the second receives what the first sends
    limit       the largest message, in bytes
    duplex      whether the second one's messages reach the first one
    ends        whether the mechanism can report the end of a stream
    hangs_up    whether a sender learns that its receiver is gone
    empties     whether an empty message is a message
    pushes_back whether a sender waits for a full receiver; if not, the checks send little at a time
    reserved    bytes that a message cannot contain
    size        the size of every message, if the mechanism has only one
    lag         seconds within which a full channel may get some room by itself (TCP: acknowledgements come late)
    """

    open_pair: Callable[[], AbstractAsyncContextManager[tuple[Channel, Channel]]]
    limit: int
    duplex: bool = True
    ends: bool = True
    hangs_up: bool = True
    empties: bool = True
    pushes_back: bool = True
    reserved: bytes = b""
    size: int | None = None
    lag: float = 0.0

    def message(self, text: bytes) -> bytes:
        """Return a message for a short text, such as a number of up to four digits, made to the one size if there is one."""
        return text if self.size is None else text[: self.size].ljust(self.size, b".")

    def payload(self, size: int) -> bytes:
        """Return a message of that size, with every permitted byte value."""
        values = bytes(range(256)).translate(None, self.reserved)
        return (values * (size // len(values) + 1))[:size]

    def portions(self, messages: list[bytes], little: int = 50) -> list[list[bytes]]:
        """Split the messages into portions that may be sent before they are received: all, or a few where a sender does not wait."""
        step = len(messages) if self.pushes_back else little
        return [messages[first : first + step] for first in range(0, len(messages), step)]

    async def fill(self, sender: Channel, message: Callable[[int], bytes]) -> int:
        """Send `message(0)`, `message(1)`, ... until there is no room for another one; return how many fitted."""
        taken, before = 0, -1
        while before < taken:
            if taken:
                await anyio.sleep(self.lag)
            before = taken
            with suppress(anyio.WouldBlock):
                while taken < 1_000_000:
                    sender.send_nowait(message(taken))
                    taken += 1
        return taken
