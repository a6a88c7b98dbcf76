"""Topics on a server: PUBLISH and PSUBSCRIBE; with a history, a stream beside them, from which subscribers read what they missed.

A message on `topic` travels on the channel `NAME:topic`, as any client of the server may send it. With a history it is an entry
of the stream `NAME` (fields `n`, its number; `t`, the topic; `d`), and travels as `n` and a space before the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio

from aipc._address import Address, Secret
from aipc._io import fork
from aipc._texts.shown import Fact, shown, usable
from aipc.abc import Buffer
from aipc.exceptions import MessageTooLarge
from aipc.services.topics.frames import encode_topic
from aipc.services.topics.matching import matcher
from aipc.services.topics.publisher import Publisher
from aipc.services.topics.subscriber import Received, Subscriber
from aipc.wire.framing import MAX_MESSAGE_SIZE, as_bytes

from .errors import explain
from .links import registry
from .links.connection import Connection
from .links.dialing import dial
from .links.line import SILENCE
from .links.link import Link
from .scripts import call, pack
from .server import Place, place

if TYPE_CHECKING:
    import ssl

_MOST_UNANSWERED = 10_000
_LOOK = 0.05
_PART = 500
_WILD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")


class RemotePublisher(Publisher):
    """Publishes through a server. What a slow subscriber may miss, the server decides (client-output-buffer-limit)."""

    def __init__(self, link: Link, where: Place, history: int, limit: int) -> None:
        self._link = link
        self._url = where.url
        self._history = history
        self._limit = limit
        self._before = _channel_prefix(where, history)
        self._keys = (where.key(), where.key("last"))
        self._closed = False
        self._generation = fork.generation

    async def publish(self, topic: str, data: Buffer) -> None:
        """Publish. BrokenResourceError if the connection was lost meanwhile: it may have been published, or not."""
        await self._link.ask(self._command(topic, data), repeats=False)

    def publish_nowait(self, topic: str, data: Buffer) -> None:
        command = self._command(topic, data)
        if self._link.connection is None or self._link.unanswered >= _MOST_UNANSWERED:
            raise anyio.WouldBlock(f"{self._url}: not connected, or too much is unanswered; await publish() waits for that")
        self._link.tell(command, repeats=False)

    def _command(self, topic: str, data: Buffer) -> bytes:
        self._check()
        name, content = encode_topic(topic), bytes(as_bytes(data))
        if len(name) + len(content) > self._limit:
            raise MessageTooLarge(
                f"{self._url}: {len(content):,} bytes of data and {len(name):,} of topic; together at most {self._limit:,}"
            )
        if self._history:
            return call("publish", self._keys, self._history, name, content, self._before)
        return pack("PUBLISH", self._before + name, content)

    async def flush(self) -> None:
        self._check()
        await self._link.flushed()

    def _presence(self) -> bytes:
        self._check()
        return pack("PUBSUB", "NUMSUB", self._before)

    @property
    def subscribers(self) -> int:
        """How many there are now. Waits for the server's answer."""
        return int(self._link.ask_now(self._presence())[1])

    async def wait_subscribers(self, count: int = 1) -> None:
        while (await self._link.ask(self._presence()))[1] < count:  # noqa: ASYNC110 - nothing tells when somebody subscribes
            await anyio.sleep(_LOOK)

    async def aclose(self) -> None:
        """Send what is queued, for two seconds at most, and close. Idempotent. Cancelled: it closes all the same."""
        if self._closed or self._generation != fork.generation:
            return
        self._closed = True
        await self._link.flushed()
        registry.leave(self._link)

    def _check(self) -> None:
        fork.check(self._generation, self._url)
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._url}: closed")

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._url
        yield usable(self._closed, self._generation)


class RemoteConnection:
    """A subscriber's own connection. `missed` is what the history has that was published while there was no connection."""

    def __init__(self, connection: Connection, topics: Topics, missed: list[Received]) -> None:
        self._connection = connection
        self._topics = topics
        self._missed = missed
        self._asked = False

    async def read(self) -> list[Received]:
        """What came. A server that says nothing for 5 s is asked whether it is there, and has 5 s to answer."""
        missed, self._missed = self._missed, []
        if missed:
            return missed
        with anyio.move_on_after(SILENCE):
            replies = await self._connection.read()
            self._asked = False
            return [message for reply in replies for message in self._topics.received(reply)]
        if self._asked:
            raise anyio.BrokenResourceError("the server fell silent")
        self._asked = True
        await self._connection.channel.send(pack("PING"))
        return []

    async def aclose(self) -> None:
        """Close it."""
        self._connection.close()


class Topics:
    """What a subscriber wants, and up to which number it has it."""

    def __init__(self, where: Place, patterns: tuple[str, ...], history: int) -> None:
        self.last: int = 0
        self.before: bytes = _channel_prefix(where, history)
        self._history = history
        self._wants = matcher(patterns)
        self._globs: dict[bytes, Callable[[bytes], object]] = {}
        for pattern in patterns or ("*",):
            literals = [part.encode() for part in _WILD.split(pattern)]
            literals[0] = self.before + literals[0]
            self._globs[b"*".join(map(_escape, literals))] = re.compile(
                b".*".join(map(re.escape, literals)), re.DOTALL
            ).fullmatch

    def request(self) -> bytes:
        """The commands that subscribe; the server answers each pattern, and the channel that tells how many subscribers there are."""
        return pack("PSUBSCRIBE", *self._globs) + pack("SUBSCRIBE", self.before)

    @property
    def answers(self) -> int:
        """How many answers that has."""
        return len(self._globs) + 1

    def received(self, reply: Any) -> list[Received]:
        """The message in what the server sent, if there is one, and we want it, and have it not yet."""
        if reply[0] != b"pmessage":
            return []
        _, glob, channel, data = reply
        if next(known for known, matches in self._globs.items() if matches(channel)) != glob:
            return []  # it comes once for each pattern
        number = 0
        if self._history:
            text, _, data = data.partition(b" ")
            number = int(text)
        return self.numbered(number, channel[len(self.before) :], data)

    def numbered(self, number: int, topic: bytes, data: bytes) -> list[Received]:
        """The same, for an entry of the history."""
        if number:
            if number <= self.last:
                return []
            self.last = number
        name = topic.decode(errors="surrogateescape")
        return [Received(name, data, 0)] if self._wants(name) else []


class RemoteSubscriber(Subscriber):
    """A subscriber that has a share of the link, to read the history."""

    def __init__(self, link: Link, where: Place, topics: Topics, history: int) -> None:
        super().__init__(where.url, self._subscribe)
        self._link = link
        self._key = where.key()
        self._topics = topics
        self._history = history

    async def _subscribe(self) -> RemoteConnection:
        connection = await dial(self._link.server)
        try:
            await connection.channel.send(self._topics.request())
            replies: list[Any] = []
            while len(replies) < self._topics.answers:
                replies += await connection.read()
            for reply in replies:
                if isinstance(reply, Exception):
                    raise explain(reply, self._url)
            missed = await self._read_history() if self._history else []
            missed += [message for reply in replies for message in self._topics.received(reply)]
        except BaseException:
            connection.close()
            raise
        return RemoteConnection(connection, self._topics, missed)

    async def _read_history(self) -> list[Received]:
        """All that was published after the last message we have; what the history has no more, is counted."""
        found: list[Received] = []
        first = b"-"
        while True:
            entries = await self._link.ask(pack("XRANGE", self._key, first, "+", "COUNT", _PART), patient=False)
            for _, fields in entries:
                entry = dict(zip(fields[::2], fields[1::2], strict=True))
                number = int(entry[b"n"])
                lost = number - self._topics.last - 1 if self._topics.last else 0
                if lost > 0:
                    found.append(Received(None, b"", lost))
                found += self._topics.numbered(number, entry[b"t"], entry[b"d"])
            if len(entries) < _PART:
                return found
            first = b"(" + entries[-1][0]

    async def aclose(self) -> None:
        left = self._closed
        await super().aclose()
        if not left:
            registry.leave(self._link)


def _channel_prefix(where: Place, history: int) -> bytes:
    return (where.key("history:") if history else f"{where.name}:").encode()


def _escape(literal: bytes) -> bytes:
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", literal)


async def publish_on(
    address: Address,
    *,
    db: int | None = None,
    name: str | None = None,
    history: int = 0,
    max_message_size: int = MAX_MESSAGE_SIZE,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    sentinel_password: Secret | None = None,
) -> RemotePublisher:
    """Publish through a server. `history`: how many messages it keeps, about, for those who were away."""
    security = {
        "cafile": cafile,
        "certfile": certfile,
        "keyfile": keyfile,
        "server_hostname": server_hostname,
        "ssl_context": ssl_context,
        "sentinel_password": sentinel_password,
    }
    where = place(address, security, db, name)
    link = await _join(where)
    return RemotePublisher(link, where, history, max_message_size)


async def subscribe_to(
    address: Address,
    *,
    patterns: Any = (),
    db: int | None = None,
    name: str | None = None,
    history: int = 0,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    sentinel_password: Secret | None = None,
) -> RemoteSubscriber:
    """Subscribe. With `history`, which the publishers must have, too, it begins with what is kept."""
    security = {
        "cafile": cafile,
        "certfile": certfile,
        "keyfile": keyfile,
        "server_hostname": server_hostname,
        "ssl_context": ssl_context,
        "sentinel_password": sentinel_password,
    }
    where = place(address, security, db, name)
    link = await _join(where)
    subscriber = RemoteSubscriber(link, where, Topics(where, patterns, history), history)
    try:
        await subscriber.connect()
    except BaseException:
        await subscriber.aclose()
        raise
    return subscriber


async def _join(where: Place) -> Link:
    with registry.joined(where.server) as link:
        await link.ask(pack("PING"), patient=False)
    return link
