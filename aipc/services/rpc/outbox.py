"""The messages of one connection: sent at once if there is room, otherwise in order, by one task that is never cancelled.

So a task that stops waiting knows whether its message was sent: `withdraw` says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc._io.loop.wait_queue import WaitQueue
from aipc.abc import Channel

_AT_ONCE = 64 * 1024
"""Bytes: `send_nowait` might have to copy the rest of a longer message."""
_BUDGET = 128
"""Messages sent without waiting between two turns of the loop."""
_NOTHING: Mapping[str, Any] = {}


class Letter(WaitQueue):
    """A message that waits to be sent."""

    __slots__ = ("_outbox", "begun", "data", "done", "error", "meta")

    def __init__(self, outbox: Outbox, data: bytes, meta: Mapping[str, Any]) -> None:
        super().__init__()
        self._outbox = outbox
        self.data: bytes = data
        self.meta: Mapping[str, Any] = meta
        self.begun: bool = False
        self.done: bool = False
        self.error: Exception | None = None

    async def sent(self) -> None:
        """Wait until it is sent. Errors as `Channel.send`. Cancelled: it stays queued; see `withdraw`."""
        while not self.done:
            await self.queue()
        if self.error is not None:
            raise self.error

    def withdraw(self) -> bool:
        """Whether it was not sent, and will not be."""
        if not (self.begun or self.done):
            self._outbox.drop(self)
        return not self.begun or self.error is not None


class Outbox:
    """All messages of a channel are sent through this object."""

    __slots__ = ("_budget", "_channel", "_hold", "_letters", "_sending")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._hold: Callable[[bytes], None] = getattr(channel, "hold_nowait", channel.send_nowait)
        self._letters: deque[Letter] = deque()
        self._sending = False
        self._budget = _BUDGET

    @property
    def waiting(self) -> int:
        """The number of messages that wait to be sent."""
        return len(self._letters)

    def post(self, data: bytes, meta: Mapping[str, Any] = _NOTHING, *, more: bool = False) -> Letter | None:
        """Send now, or queue it. None: it is sent. Errors as `Channel.send_nowait`.

        `more`: others will probably send in this turn of the loop, too; all of that goes to the kernel together.
        """
        if not self._sending and len(data) <= _AT_ONCE:
            try:
                if more and not meta:
                    self._hold(data)
                else:
                    self._channel.send_nowait(data, **meta)
            except anyio.WouldBlock:
                pass
            else:
                return None
        letter = Letter(self, data, meta)
        self._letters.append(letter)
        if not self._sending:
            self._sending = True
            backend.start_soon(self._send_letters)
        return letter

    async def send(self, data: bytes, *, more: bool = False) -> None:
        """Send one message. Errors as `Channel.send`. Cancelled: the whole message was sent, or nothing."""
        self._budget -= 1
        if self._budget <= 0:
            self._budget = _BUDGET
            await backend.checkpoint()
        letter = self.post(data, more=more)
        if letter is not None:
            try:
                await letter.sent()
            except BaseException:
                letter.withdraw()
                raise

    async def send_held(self) -> None:
        """Wait until the kernel has what was sent with `more`. Errors as `Channel.send`. Cancelled: it is sent all the same."""
        send_held = getattr(self._channel, "send_held", None)
        if send_held is not None:
            await send_held()

    def drop(self, letter: Letter) -> None:
        """Remove a queued letter."""
        self._letters.remove(letter)

    async def _send_letters(self) -> None:
        try:
            while self._letters:
                letter = self._letters.popleft()
                letter.begun = True
                try:
                    await self._channel.send(letter.data, **letter.meta)
                except Exception as error:  # noqa: BLE001 - raised to the task that waits for the letter
                    letter.error = error
                finally:
                    letter.done = True
                    letter.wake()
        finally:
            self._sending = False
