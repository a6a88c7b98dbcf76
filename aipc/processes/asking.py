"""The pool's end of a channel to a worker: requests and answers, beside messages that belong to no request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

from aipc._io import fork
from aipc._sys import rights
from aipc.abc import Buffer, Message
from aipc.exceptions import ProtocolError
from aipc.transports.base import TransportChannel

from .changes import Changes
from .numbered import CALL, CONTROL, NUMBER, SIZE, NumberedChannel

MOST_UNASKED = 1_000
"""The number of messages that a worker may send unasked before one is received."""


class AskingChannel(NumberedChannel):
    """The parent's end: requests and answers, beside messages that belong to no request.

    The task that reads passes on what belongs to another task: an answer to `answer`, everything else to `receive`.
    """

    def __init__(self, transport: TransportChannel) -> None:
        super().__init__(transport)
        self._requests = 0
        self._awaited = 0  # the number of the request that is not answered yet
        self._answer: bytes | None = None
        self._unasked: deque[Message] = deque()
        self._error: Exception | None = None
        self._reading = False
        self._imported = False
        self._changes = Changes()
        self._generation = fork.generation

    def _number(self) -> int:
        return 0

    def begin(self) -> None:
        """Let the worker's function begin, as soon as it is imported."""
        self._transport.send_nowait(NUMBER.pack(CONTROL))

    async def wait_imported(self) -> None:
        """Wait until the worker has imported its function. Cancelled: nothing happened."""
        await self._read(lambda: self._imported)

    async def ask(self, data: Buffer, *, call: bool = False) -> None:
        """Send a request; `call`: one that the worker's end runs. Cancelled or refused: certainly nothing was sent.

        Returns as soon as the first part was sent: the rest follows, and cannot be taken back.
        """
        self._requests += 1
        number = self._requests | CALL if call else self._requests
        self._awaited, self._answer = number, None
        await TransportChannel.send(self._transport, self._seal(number, data))

    async def answer(self) -> bytes:
        """Return the answer to the last request; answers to earlier ones are dropped. Cancelled: the answer still comes."""
        await self._read(lambda: self._answer is not None)
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    async def _read(self, enough: Callable[[], object], **selection: Any) -> None:
        """Receive until `enough()` is true, or wait while another task receives."""
        fork.check(self._generation, self._name)
        while not enough():
            if self._error is not None:
                raise self._error.with_traceback(None)
            if self._reading:
                await self._changes.until(lambda: not self._reading or enough())
                continue
            self._reading = True
            try:
                message = await self._transport.receive_message(**selection)
            finally:
                self._reading = False
                self._changes.tell()
            self._sort(message)

    def _sort(self, message: Message) -> None:
        """Keep the expected answer, or a message that answers no request. Anything else is ProtocolError, from now on for every task."""
        try:
            number = self._number_in(message.data)
            if not number and len(self._unasked) >= MOST_UNASKED:
                raise ProtocolError(f"{self._name}: {MOST_UNASKED:,} messages that answer no request wait to be received")
        except ProtocolError as error:
            self._error = error
            rights.close(message.fds)
            raise
        data = message.data[SIZE:]
        if not number:
            self._unasked.append(message._replace(data=data))
            return
        rights.close(message.fds)
        if number == CONTROL:
            self._imported = True
        elif number == self._awaited:
            self._answer, self._awaited = data, 0

    async def receive(self, **selection: Any) -> bytes:
        await self._read(lambda: self._unasked, **selection)
        return self._taken()

    def receive_nowait(self, **selection: Any) -> bytes:
        fork.check(self._generation, self._name)
        while not self._unasked:
            if self._reading:  # that task gets the next message, and passes it on
                raise anyio.WouldBlock(f"{self._name}: another task is receiving; await receive() waits for its turn")
            self._sort(Message(self._transport.receive_nowait(**selection)))
        return self._taken()

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        if max_messages is not None and max_messages < 1:
            raise ValueError(f"max_messages={max_messages}: must be 1 or more")
        messages = [await self.receive(**selection)]
        while len(messages) < (max_messages or MOST_UNASKED):
            try:
                messages.append(self.receive_nowait(**selection))
            except Exception:  # noqa: BLE001 - the next call raises it again; these messages come first
                break
        return messages

    async def receive_message(self, **selection: Any) -> Message:
        await self._read(lambda: self._unasked, **selection)
        return self._unasked.popleft()

    def _taken(self) -> bytes:
        message = self._unasked.popleft()
        rights.close(message.fds)
        return message.data

    async def aclose(self) -> None:
        await super().aclose()
        while self._unasked:
            self._taken()
