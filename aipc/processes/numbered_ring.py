"""Numbered messages in shared memory, with the loans and views of a ring's channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from aipc._io.loop import backend
from aipc.transports.shm.channel import RingChannel

from .answering import AnsweringChannel
from .asking import AskingChannel
from .numbered import NUMBER, SIZE, NumberedChannel


class _LendingChannel(NumberedChannel):
    _transport: RingChannel

    @asynccontextmanager
    async def loan(self, size: int) -> AsyncIterator[memoryview]:
        """Like `RingChannel.loan`."""
        async with self._transport.loan(size + SIZE if size >= 0 else size) as room:
            number = self._number()
            NUMBER.pack_into(room, 0, number)
            try:
                with self._behind_number(room) as view:
                    yield view
            except BaseException:
                self._unsent(number)
                raise

    @contextmanager
    def _behind_number(self, whole: memoryview) -> Iterator[memoryview]:
        view = whole[SIZE:]
        try:
            yield view
        except BaseException:
            with suppress(BufferError):  # the first error counts
                view.release()
            raise
        try:
            view.release()
        except BufferError as error:
            raise BufferError(f"{self._name}: something made of the view is still in use at the block's end") from error


class AnsweringRing(_LendingChannel, AnsweringChannel):
    """The worker's end in shared memory."""

    @asynccontextmanager
    async def receive_view(self) -> AsyncIterator[memoryview]:
        """Like `RingChannel.receive_view`."""
        while True:
            async with self._transport.receive_view() as whole:
                if self._takes(whole):
                    with self._behind_number(whole) as view:
                        yield view
                    return
            await backend.checkpoint()  # the call runs first


class AskingRing(_LendingChannel, AskingChannel):
    """The parent's end in shared memory."""

    @asynccontextmanager
    async def receive_view(self) -> AsyncIterator[memoryview]:
        """Like `RingChannel.receive_view`, but a copy: only after receiving a message is it known whether it is an answer."""
        with memoryview(await self.receive()) as view:
            yield view


RingChannel.register(AnsweringRing)
RingChannel.register(AskingRing)
