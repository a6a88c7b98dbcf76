"""Peers that send plain bytes to a channel that expects lengths: the most frequent first mistake, and what to say about it."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

from anyio import sleep

from aipc.exceptions import MessageTooLarge

_logger = logging.getLogger("aipc")
PATIENCE = 5.0
"""Seconds for the rest of a message's length to come, before a warning."""
_HEADER = 4


def announced(error: Exception, rest: bytes) -> Exception:
    """`error`; if it is about a length whose bytes are text, or a small number the other way round, that is said, too."""
    first = rest[:_HEADER]
    if not isinstance(error, MessageTooLarge) or len(first) < _HEADER:
        return error
    (reversed_length,) = struct.unpack("<I", first)
    if first.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in first):
        return MessageTooLarge(
            f"{error}. These bytes read {first.decode()!r}: a peer that sends plain text, without lengths, is read with framing=none, "
            "or framing=lines"
        )
    if reversed_length <= 0xFFFF:
        return MessageTooLarge(
            f"{error}. With its bytes the other way round it is {reversed_length:,}: a peer that sends its machine's own integers "
            "as lengths is read with framing=u32le; one that sends integers, with framing=fixed:4"
        )
    return error


async def warn_of_silence(name: str, rest: Callable[[], bytes]) -> None:
    """Warn if `rest()`, the beginning of a length, is the same after a while. Cancelled with the loop."""
    before = rest()
    await sleep(PATIENCE)
    if before and rest() is before:
        _logger.warning(
            "%s: %r came, and for %g seconds nothing more: that is less than the length in front of a message (framing=u32). "
            "A peer that sends plain bytes is read with framing=none, or framing=lines",
            name, before, PATIENCE,
        )  # fmt: skip
