"""The worker's end of a pool's channel: it notes which request the function answers, and runs calls."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc.abc import Buffer, Message
from aipc.exceptions import MessageTooLarge
from aipc.transports.base import TransportChannel

from . import task_pickle
from .numbered import CALL, CONTROL, NUMBER, SIZE, NumberedChannel


class AnsweringChannel(NumberedChannel):
    """The worker's end. Its function uses it like any other channel."""

    def __init__(self, transport: TransportChannel) -> None:
        super().__init__(transport)
        self._unanswered = 0

    def _number(self) -> int:
        number, self._unanswered = self._unanswered, 0
        return number

    def _unsent(self, number: int) -> None:
        # If the message was sent after all, because sending had begun, the next message becomes a second answer, which the
        # parent drops. Otherwise the request would never be answered.
        self._unanswered = self._unanswered or number

    async def begin(self) -> bool:
        """Tell the pool that the function is imported, and wait until it may begin. False: the pool does not need it any more."""
        try:
            await self._transport.send(NUMBER.pack(CONTROL))
            return self._number_in(await self._transport.receive()) == CONTROL
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return False

    def _takes(self, data: Buffer) -> bool:
        """Note the request that the function gets. False for a call: it runs beside the function."""
        number = self._number_in(data)
        if number & CALL:
            backend.start_soon(self._run, number, bytes(data[SIZE:]))
            return False
        self._unanswered = number or self._unanswered
        return True

    async def _run(self, number: int, call: bytes) -> None:
        report = await task_pickle.report_of(call)
        try:
            await self._answer(number, report)
        except MessageTooLarge as error:
            await self._answer(number, task_pickle.pack_error(error).data)

    async def _answer(self, number: int, report: bytes) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the pool, or the function, has ended
            await self._transport.send(self._seal(number, report))

    async def receive(self, **selection: Any) -> bytes:
        while not self._takes(data := await self._transport.receive(**selection)):
            await backend.checkpoint()  # the call runs first: otherwise this would spin, and the call wait behind it
        return data[SIZE:]

    def receive_nowait(self, **selection: Any) -> bytes:
        while not self._takes(data := self._transport.receive_nowait(**selection)):
            pass
        return data[SIZE:]

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        messages: list[bytes] = []
        while not messages:
            batch = await self._transport.receive_many(max_messages, **selection)
            messages = [data[SIZE:] for data in batch if self._takes(data)]
            if not messages:
                await backend.checkpoint()
        return messages

    async def receive_message(self, **selection: Any) -> Message:
        while not self._takes((message := await self._transport.receive_message(**selection)).data):
            await backend.checkpoint()
        return message._replace(data=message.data[SIZE:])
