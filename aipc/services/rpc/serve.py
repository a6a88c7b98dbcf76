"""Answering calls."""

from __future__ import annotations

import anyio

from aipc.abc import Channel, Listener
from aipc.exceptions import ProtocolError
from aipc.services.codecs import Codec, check

from .peer import Peer, check_limit
from .router import Router


class Handler:
    """Return a handler for each connection: for `listener.serve(handler)`, or `service.listen(url, handler)`.

    When the listener is drained, a connection is closed as soon as no method runs on it.
    """

    def __init__(self, router: Router, codec: Codec = "msgpack", max_in_flight: int = 100) -> None:
        check(codec)
        check_limit(max_in_flight)
        self._router = router
        self._codec: Codec = codec
        self._max_in_flight = max_in_flight
        self._peers: set[Peer] = set()
        self._draining = False

    async def __call__(self, channel: Channel) -> None:
        """`serve_channel`."""
        async with channel:
            peer = Peer(channel, self._codec, self._router, self._max_in_flight)
            self._peers.add(peer)
            if self._draining:
                peer.drain()
            try:
                await peer.run()
            except ProtocolError:
                raise
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return  # the peer has left
            except anyio.ClosedResourceError:
                if not self._draining:
                    raise
            finally:
                self._peers.discard(peer)

    def drain(self) -> None:
        """Close each connection, also new ones, once no method runs on it: at once, or after the last answer."""
        self._draining = True
        for peer in self._peers:
            peer.drain()


async def serve(listener: Listener, router: Router, codec: Codec = "msgpack", max_in_flight: int = 100) -> None:
    """Answer the calls of all clients, until cancelled or drained, as `listener.serve` does.

    On each connection at most `max_in_flight` methods run at once; further calls wait in the kernel. When a connection ends, or sends
    an invalid message, only its own methods are cancelled. Drained: running methods are answered, and then each connection is closed.
    Cancelled: all methods are cancelled, and have ended.
    """
    await listener.serve(Handler(router, codec, max_in_flight))


async def serve_channel(channel: Channel, router: Router, codec: Codec = "msgpack", max_in_flight: int = 100) -> None:
    """Answer the calls of one connection until it ends, and close it.

    ProtocolError, MessageTooLarge: the peer sent an invalid message. Cancelled, or at the end of the connection: the methods that still
    run are first cancelled, and have ended.
    """
    await Handler(router, codec, max_in_flight)(channel)
