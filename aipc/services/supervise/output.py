"""The lines that a program writes to stdout and stderr."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import anyio

from aipc.abc import Channel

from .program import ProgramLine

_logger = logging.getLogger("aipc")
LONGEST = 1 << 16
"""Bytes after which a line is passed on in parts."""
OnLine = Callable[[ProgramLine], Awaitable[object] | object]


async def read_lines(channel: Channel, program: str, stream: Literal["stdout", "stderr"], on_line: OnLine) -> None:
    """Call `on_line` with each line until the stream ends. Its error is logged, and the next line follows."""
    async for text in _lines(channel):
        try:
            result = on_line(ProgramLine(program, stream, text))
            if isinstance(result, Awaitable):
                await result
        except Exception:
            _logger.exception("on_line failed for a line of %s", program)


async def _lines(channel: Channel) -> AsyncIterator[bytes]:
    rest = b""
    try:
        async for chunk in channel:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                for part in _parts(line):
                    yield part
            while len(rest) > LONGEST:
                yield rest[:LONGEST]
                rest = rest[LONGEST:]
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    if rest:
        yield rest


def _parts(line: bytes) -> list[bytes]:
    return [line[at : at + LONGEST] for at in range(0, len(line), LONGEST)] or [b""]
