"""One connection to a server: a channel of aipc's, and hiredis's parser."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import hiredis

from aipc._opening.openers import open_channel
from aipc.abc import Channel
from aipc.exceptions import NobodyListens, ObjectMissing, ProtocolError

from ..errors import NotReady, explain
from ..scripts import pack
from ..server import Server

_NO_LIMIT = 1 << 40  # of many commands at once; each message has one of its own
_NOTHING = object()
_ASKING = pack("ASKING")

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""How the end of a connection shows."""


class Connection:
    """Commands go out, replies come in, in the same order. `number` is the server's for this client.

    `before` goes out before each command that concerns a key of the cluster that is on its way to this node.
    """

    def __init__(self, channel: Channel, url: str) -> None:
        self.channel: Channel = channel
        self.url: str = url
        self.number: int = 0
        self.imports: bool = False
        self.before: bytes = b""
        self._between = False
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
                self._between = bool(self.before) and not self._between
                if not self._between:  # else it is the reply to `before`
                    replies.append(reply)
        except hiredis.ProtocolError as error:
            raise ProtocolError(f"{self.url}: what answers there is no Redis server: {error}") from None
        return replies

    def ask(self) -> None:
        """From now on, commands may concern keys that this node is about to get."""
        self.before = _ASKING

    def close(self) -> None:
        """Close it at once. Idempotent."""
        with contextlib.suppress(*GONE):
            self.channel.close()  # type: ignore[attr-defined] # each byte stream has it


async def connected(url: str, server: Server) -> Connection:
    """A connection to where that server is, or to one that knows where. Errors as of the channel. Cancelled: nothing is open."""
    try:
        channel = await open_channel(url, framing="none", max_message_size=_NO_LIMIT, **dict(server.tls))
    except (NobodyListens, ObjectMissing) as error:
        raise type(error)(error.errno, f"{server.url}: no Redis server listens at {url}") from None
    return Connection(channel, url)


async def exchange(connection: Connection, commands: list[bytes], server: Server, optional: int = 0) -> list[Any]:
    """The replies to some commands, after the login. An error is raised, except in the replies to the last `optional` ones.

    NotReady if the connection ends before. In any case of an error it is closed.
    """
    try:
        if await _say(connection, commands, server):
            return await _replies(connection, len(commands), optional, server)
    except BaseException as error:
        connection.close()
        if type(error) not in (anyio.EndOfStream, anyio.BrokenResourceError):
            raise
    raise NotReady(f"{connection.url}: the server closed the connection at once")


async def _replies(connection: Connection, count: int, optional: int, server: Server) -> list[Any]:
    login = bool(server.password)
    replies: list[Any] = []
    while len(replies) < count + login:
        replies += await connection.read()
        for reply in replies[: count + login - optional]:
            if isinstance(reply, Exception):
                raise explain(reply, connection.url)
    return replies[login:]


async def _say(connection: Connection, commands: list[bytes], server: Server) -> bool:
    """Send the password and the commands. An error here would carry the password in its traceback: it is left behind."""
    login = ("AUTH", *filter(None, [server.user]))
    with contextlib.suppress(*GONE):
        await connection.channel.send(
            b"".join([pack(*login, server.password.reveal()), *commands]) if server.password else b"".join(commands)
        )
        return True
    connection.close()
    return False
