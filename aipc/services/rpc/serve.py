"""Answering calls."""

from __future__ import annotations

from functools import partial

import anyio

from aipc.abc import Channel, Listener
from aipc.services.codecs import Codec, check

from .peer import Peer
from .router import Router


async def serve(listener: Listener, router: Router, codec: Codec = "msgpack", max_in_flight: int = 100) -> None:
    """Answer the calls of everybody who connects, until cancelled or drained, as `listener.serve` has it.

    On each connection at most `max_in_flight` methods run at once; calls beyond wait in the kernel. A connection that sends what
    is no message, or ends, takes its own methods with it, and no others. Cancelled: all methods are cancelled, and end.
    """
    check(codec)
    await listener.serve(partial(serve_channel, router=router, codec=codec, max_in_flight=max_in_flight))


async def serve_channel(channel: Channel, router: Router, codec: Codec = "msgpack", max_in_flight: int = 100) -> None:
    """Answer the calls of one connection until it ends, and close it.

    ProtocolError, MessageTooLarge: the peer sent what is no message. Cancelled, or at the end of the connection: the methods
    that still run are cancelled, and end, first.
    """
    async with channel:
        try:
            await Peer(channel, codec, router, max_in_flight).run()
        except anyio.EndOfStream:
            return
