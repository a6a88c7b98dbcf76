"""Connecting to a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

import anyio

from aipc._opening.openers import CONNECTIONS, Opening, opening
from aipc.abc import Channel
from aipc.services.codecs import Codec

from .client import Client
from .peer import Peer
from .router import Router

if TYPE_CHECKING:
    from aipc._options import ChannelOptions


@asynccontextmanager
async def connect(
    url_or_channel: str | Channel,
    codec: Codec = "msgpack",
    router: Router | None = None,
    *,
    max_in_flight: int = 100,
    **options: Unpack[ChannelOptions],
) -> AsyncIterator[Client]:
    """A client of a service: `async with rpc.connect("unix:/run/app.sock") as client`.

    A URL, with `options`, is opened as by `aipc.open_channel`; a channel is taken over. Either is closed at the end of the block.
    `router`: the methods that the service may call here, at most `max_in_flight` at once. `codec` must be the service's.

    When the connection is lost, calls fail with ConnectionLost, also all later ones. When the block is left or cancelled, the methods
    that run here for the service are first cancelled, and have ended.
    """
    channel = await _connection(url_or_channel, options) if isinstance(url_or_channel, str) else url_or_channel
    failed: Exception | None = None
    async with channel:
        peer = Peer(channel, codec, router, max_in_flight)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_run, peer)
            try:
                peer.tell_window()
                yield peer.client
            except Exception as error:  # noqa: BLE001 - raised below, outside of an exception group
                failed = error
            finally:
                tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


def _connection(url: str, options: Mapping[str, Any]) -> Opening[Channel]:
    return opening(CONNECTIONS, "rpc.connect", url, options)


async def _run(peer: Peer) -> None:
    try:
        await peer.run()
    except Exception:  # noqa: BLE001 - every call has failed with it
        await peer.aclose()
