"""One connection to a server: a channel of aipc's, and hiredis's parser."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import hiredis

from aipc._opening.openers import open_channel
from aipc.abc import Channel
from aipc.exceptions import ProtocolError

from ..errors import NotReady, explain
from ..scripts import loading, pack
from ..server import Server

_DIALING = 5.0
"""Seconds for a connection and its greeting."""
_NO_LIMIT = 1 << 40  # of many commands at once; each message has one of its own
_NOTHING = object()

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""How the end of a connection shows."""


class Connection:
    """Commands go out, replies come in, in the same order. `number` is the server's for this client."""

    def __init__(self, channel: Channel, url: str) -> None:
        self.channel: Channel = channel
        self.number: int = 0
        self._url = url
        self._reader: Any = hiredis.Reader(notEnoughData=_NOTHING)

    async def read(self) -> list[Any]:
        """The replies that came, perhaps none. Cancelled: nothing was consumed."""
        return self.parse(await self.channel.receive())

    def read_nowait(self) -> list[Any]:
        """The replies that are there, or WouldBlock."""
        return self.parse(self.channel.receive_nowait())

    def push(self) -> bool:
        """Go on with what the kernel did not take yet; False if there is still some."""
        try:
            self.channel.send_nowait(b"")
        except anyio.WouldBlock:
            return False
        return True

    def parse(self, data: bytes) -> list[Any]:
        """The replies that end in `data`. ProtocolError for what is none."""
        replies: list[Any] = []
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            raise ProtocolError(f"{self._url}: what answers there is no Redis server: {error}") from None
        return replies

    def close(self) -> None:
        """Close it at once. Idempotent."""
        with contextlib.suppress(*GONE):
            self.channel.close()  # type: ignore[attr-defined] # each byte stream has it


async def dial(server: Server, replaces: int = 0) -> Connection:
    """Connect and log in. `replaces`: the number of the connection before, of which the server must do nothing more.

    Errors as of the channel, AccessDenied for a wrong password, BrokenResourceError for a server that is not ready or does not
    answer in 5 s. Cancelled: nothing is open.
    """
    with anyio.move_on_after(_DIALING):
        channel = await open_channel(server.url, framing="none", max_message_size=_NO_LIMIT, **dict(server.tls))
        connection = Connection(channel, server.url)
        try:
            await _greet(connection, server, replaces)
        except BaseException as error:
            connection.close()
            if type(error) in (anyio.EndOfStream, anyio.BrokenResourceError):
                raise NotReady(f"{server.url}: the server closed the connection at once") from None
            raise
        return connection
    raise NotReady(f"{server.url}: no answer in {_DIALING:.0f} s")


async def _greet(connection: Connection, server: Server, replaces: int) -> None:
    scripts = loading()
    optional = [pack("CLIENT", "KILL", "ID", replaces)] if replaces else []  # a new server does not know it
    commands = [pack("SELECT", server.db), *scripts, pack("CLIENT", "ID"), *optional]
    if not await _say(connection, commands, server):
        raise NotReady(f"{server.url}: the server closed the connection at once")
    needed = len(commands) - len(optional) + bool(server.password)
    replies: list[Any] = []
    while len(replies) < len(commands) + bool(server.password):
        replies += await connection.read()
        for reply in replies[:needed]:
            if isinstance(reply, Exception):
                raise explain(reply, server.url)
    connection.number = replies[needed - 1]


async def _say(connection: Connection, commands: list[bytes], server: Server) -> bool:
    """Send the password and the commands. An error here would carry the password in its traceback: it is left behind."""
    login = ("AUTH", *filter(None, [server.user]))
    with contextlib.suppress(*GONE):
        await connection.channel.send(
            b"".join([pack(*login, server.password.reveal()), *commands]) if server.password else b"".join(commands)
        )
        return True
    return False
