"""The option `wait` of what connects to a listener: try again until somebody listens."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import anyio

Opened = TypeVar("Opened")
Connect = Callable[..., Awaitable[Opened]]

_logger = logging.getLogger("aipc")
_FIRST_PAUSE = 0.005  # seconds
_LONGEST_PAUSE = 0.25

MISSING_OR_REFUSED = (FileNotFoundError, ConnectionRefusedError)
"""Of a path: there is no socket yet, or nobody listens on it."""


def can_wait(*errors: type[Exception]) -> Callable[[Connect[Opened]], Connect[Opened]]:
    """Give an opener the option `wait`: on one of `errors` it tries again after a pause, of a quarter of a second at most."""

    def decorate(connect: Connect[Opened]) -> Connect[Opened]:
        @wraps(connect)
        async def connect_or_wait(*args: Any, wait: bool = False, **options: Any) -> Opened:
            pause = _FIRST_PAUSE
            while True:
                try:
                    return await connect(*args, **options)
                except errors as error:
                    if not wait:
                        raise
                    _logger.debug("%s; tried again in %.3f s", error, pause)
                await anyio.sleep(pause)  # nothing tells when somebody listens
                pause = min(2 * pause, _LONGEST_PAUSE)

        signature = inspect.signature(connect)
        option = inspect.Parameter("wait", inspect.Parameter.KEYWORD_ONLY, default=False, annotation="bool")
        setattr(connect_or_wait, "__signature__", signature.replace(parameters=[*signature.parameters.values(), option]))  # noqa: B010
        return connect_or_wait

    return decorate
