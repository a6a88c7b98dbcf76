"""Keeps a connection: makes it when it is wanted, again when it is lost, with back-off and jitter, and drops one that fell silent."""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from contextlib import suppress
from time import monotonic
from typing import Any, ClassVar

import anyio

from aipc._io import fork
from aipc._io.loop import backend
from aipc.exceptions import ProtocolError

from ..errors import NotReady
from ..server import Server
from .connection import GONE, Connection
from .dialing import dial

_logger = logging.getLogger("aipc")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0
SILENCE = 5.0
"""Seconds without an answer after which a connection counts as lost: its server is stopped, or the network is."""
PERIOD = 1.0
"""Seconds between two looks for that."""


class Line(ABC):
    """A connection and the task that reads it, in one loop. `SCRIPTS`: whether it runs any."""

    SCRIPTS: ClassVar[bool] = False

    def __init__(self, server: Server) -> None:
        self.server: Server = server
        self.loop: object = backend.current()
        self.connection: Connection | None = None
        self.closed: bool = False
        self._generation = fork.generation
        self._running = False
        self._scope: anyio.CancelScope | None = None
        self._last = "", 0
        self._heard = 0.0
        self._useful = False  # whether the last connection gave an answer
        self._timer: backend.Timer | None = None

    @abstractmethod
    def _wanted(self) -> bool:
        """Whether somebody needs a connection that is not there."""

    @abstractmethod
    def _connected(self, connection: Connection) -> None:
        """A new connection."""

    @abstractmethod
    def _received(self, replies: list[Any]) -> None:
        """What came."""

    @abstractmethod
    def _lost(self) -> None:
        """The connection is gone."""

    @abstractmethod
    def _failed(self, error: Exception, seconds: float) -> None:
        """No connection could be made, for so many seconds by now."""

    @abstractmethod
    def _is_silent(self) -> bool:
        """Whether an answer is missing for too long. Asked each second, as long as `_watch` runs."""

    def start(self) -> None:
        """Have a connection, from now on."""
        if not self._running and not self.closed:
            self._running = True
            backend.start_soon(self._run)

    async def _run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                await self._keep()
        finally:
            self._running = False
            self._drop()

    async def _keep(self) -> None:
        pause, began = _FIRST_PAUSE, monotonic()
        while self._wanted() and not self.closed:
            try:
                connection = await dial(self.server, self._last, scripts=self.SCRIPTS)
            except Exception as error:  # noqa: BLE001 - told to those who wait
                self._failed(error.with_traceback(None), monotonic() - began)
            else:
                ended = await self._serve(connection)
                if self._useful:
                    pause, began = _FIRST_PAUSE, monotonic()
                else:
                    self._failed(ended, monotonic() - began)
            if self._wanted():
                await anyio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - thousands must not come at once
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, connection: Connection) -> Exception:
        """Read until it ends: why it did."""
        try:
            self._useful = False
            self.connection, self._last, self._heard = connection, (connection.url, connection.number), monotonic()
            self._connected(connection)
            while True:
                replies = await connection.read()
                self._heard = monotonic()
                self._received(replies)
        except (NotReady, ProtocolError) as error:
            return error.with_traceback(None)
        except GONE:
            return NotReady(f"{self.server.url}: the connection was lost before an answer")
        finally:
            self._drop()

    def _drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
            _logger.debug("%s: the connection %d ended", self.server.url, connection.number)
            self._lost()

    def write(self, data: bytes) -> bool:
        """Give bytes to the kernel; False if it has no room: none were taken."""
        assert self.connection is not None
        try:
            self.connection.channel.send_nowait(data)
        except anyio.WouldBlock:
            return False
        except GONE:
            pass  # the reader learns of it, too, and makes a new connection
        return True

    def watch(self) -> None:
        """Look each second whether the server fell silent, until it is not awaited any more."""
        if self._timer is None and not self.closed:
            self._timer = backend.call_later(self.loop, PERIOD, self._watched)

    def _watched(self) -> None:
        self._timer = None
        if self.connection is not None and self._is_silent():
            self.connection.close()

    def close(self) -> None:
        """Close. Idempotent."""
        if self.closed or self._generation != fork.generation:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._scope is not None:
            with suppress(RuntimeError):  # its loop is over
                self._scope.cancel()
        self._drop()
