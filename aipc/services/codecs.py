"""The two codecs, by name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import msgspec

Codec = Literal["msgpack", "json"]

Decoder = msgspec.msgpack.Decoder[Any] | msgspec.json.Decoder[Any]
Encoder = msgspec.msgpack.Encoder | msgspec.json.Encoder

_ENCODERS: dict[str, Encoder] = {"msgpack": msgspec.msgpack.Encoder(), "json": msgspec.json.Encoder()}
_DECODERS: dict[str, type[Decoder]] = {"msgpack": msgspec.msgpack.Decoder, "json": msgspec.json.Decoder}


def encoder(codec: str) -> Encoder:
    """The encoder of that codec. ValueError for an unknown one."""
    check(codec)
    return _ENCODERS[codec]


def decoder(codec: str, type: Any) -> Decoder:
    """A decoder to that type. ValueError for an unknown codec; TypeError for a type that msgspec does not take."""
    check(codec)
    try:
        return _cached(codec, type)
    except TypeError:  # a type that can't be hashed, or is refused: then once more, for msgspec's own error
        return _DECODERS[codec](type)


@lru_cache(256)
def _cached(codec: str, type: Any) -> Decoder:
    return _DECODERS[codec](type)


def check(codec: str) -> None:
    """ValueError for an unknown codec."""
    if codec not in _ENCODERS:
        raise ValueError(f"codec={codec!r}: must be one of {', '.join(_ENCODERS)}")
