"""Options that many openers share, as decorators: `wait` for what connects to a listener, `spin` for every transport."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

import anyio

Opened = TypeVar("Opened")
Opener = Callable[..., Awaitable[Opened]]

_logger = logging.getLogger("aipc")
_FIRST_PAUSE = 0.005  # seconds
_LONGEST_PAUSE = 0.25

MISSING_OR_REFUSED = (FileNotFoundError, ConnectionRefusedError)
"""Of a path: there is no socket yet, or nobody listens on it."""


class Spins(Protocol):
    """A channel, or a listener, whose channels' waits may look again for a while before they park."""

    def never_spin(self) -> None:
        """Park at once, in each wait from now on."""


Spinning = TypeVar("Spinning", bound=Spins)


def can_wait(*errors: type[Exception]) -> Callable[[Opener[Opened]], Opener[Opened]]:
    """Give an opener the option `wait`: on one of `errors` it tries again after a pause, of a quarter of a second at most."""

    def decorate(connect: Opener[Opened]) -> Opener[Opened]:
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

        return _with_option(connect_or_wait, "wait", default=False)

    return decorate


def can_spin(opener: Opener[Spinning]) -> Opener[Spinning]:
    """Give an opener the option `spin`: if False, what it opens never looks again for a while before it parks."""

    @wraps(opener)
    async def open_it(*args: Any, spin: bool = True, **options: Any) -> Spinning:
        opened = await opener(*args, **options)
        if not spin:
            opened.never_spin()
        return opened

    return _with_option(open_it, "spin", default=True)


def _with_option(opener: Opener[Opened], name: str, *, default: bool) -> Opener[Opened]:
    """The opener, whose signature names that option, too: `_opening` reads it."""
    signature = inspect.signature(opener)
    option = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation="bool")
    setattr(opener, "__signature__", signature.replace(parameters=[*signature.parameters.values(), option]))  # noqa: B010
    return opener
