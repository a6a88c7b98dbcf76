"""A queue on a test's own server, opened here and as another process would."""

from __future__ import annotations

from typing import Any, cast

import aipc
from aipc.redis.channel import RemoteJobChannel

from .servers import RedisServer


def queue_at(redis: RedisServer, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(redis.url(), **options))


def queue_elsewhere(redis: RedisServer, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    """As another process would have it: the same server by another name has connections of its own."""
    url = redis.url()
    assert redis.path in url
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(url.replace(redis.path, f"/.{redis.path}"), **options))
