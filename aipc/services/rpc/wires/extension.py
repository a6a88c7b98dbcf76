"""Additions to the two protocols: notifications, which a peer that does not know them ignores.

| method            | params                | means |
| ----------------- | --------------------- | --- |
| `$/cancelRequest` | [id], or {"id": id}   | the caller gave up; the call is still answered (Language Server Protocol) |
| `$/request`       | [id, seconds, credit] | of the request that follows: time until its deadline, or null; items that its stream may send at once, or null |
| `$/item`          | [id, value]           | the next item of a stream; its end is the answer to the call |
| `$/credit`        | [id, count]           | that many more items may be sent |
| `$/descriptors`   | []                    | this side accepts descriptors from now on; the receiver answers with the same |
| `$/window`        | [count]               | calls that may be unanswered at once; the caller sends it first, the answering side replies |
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from .base import Failure, Id, Params, Wire

CANCEL = "$/cancelRequest"
REQUEST = "$/request"
ITEM = "$/item"
CREDIT = "$/credit"
WINDOW = "$/window"
DESCRIPTORS = "$/descriptors"

FIRST_WINDOW = 8
"""Unanswered calls that are allowed before the peer has told its limit: it must be able to keep them beside the running ones."""
FIRST_CREDIT = 32
"""The most items of a stream that may be on their way."""

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_PARAMS: dict[str, Any] = {
    REQUEST: tuple[Id, _Seconds | None, _Count | None],
    ITEM: tuple[Id, msgspec.Raw],
    CREDIT: tuple[Id, _Count],
    WINDOW: tuple[_Count],
    CANCEL: tuple[Id],
    DESCRIPTORS: tuple[()],
}


class _Named(msgspec.Struct):
    id: Id


def params(wire: Wire, method: str, raw: Params) -> tuple[Any, ...] | None:
    """Return the parameters of such a notification; None if it is another one, or they are invalid."""
    try:
        if method == CANCEL and wire.is_named(raw):
            return (wire.decode(raw, _Named).id,)
        values: tuple[Any, ...] | None = wire.decode(raw, _PARAMS[method]) if method in _PARAMS else None
    except Failure:
        return None
    return values


def cancel(wire: Wire, id: Id) -> bytes:
    """Return the notification that a caller gave up."""
    return wire.notification(CANCEL, {"id": id} if wire.codec == "json" else (id,))
