"""The errors of calls, by the codes of JSON-RPC 2.0 (https://www.jsonrpc.org/specification#error_object)."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio

from aipc.exceptions import AipcError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
"""The code for a peer's error without a code."""


class RemoteError(AipcError):
    """The other side answered a call with an error. Raised in a method, it is sent as the answer: its code, message and data.

    `data` is anything that the codec can write. The codes from -32768 to -32000 are the specification's.
    """

    CODE: ClassVar[int] = SERVER_ERROR

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code: int = code
        self.message: str = message
        self.data: Any = data

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class MethodMissing(RemoteError):
    """The other side has no such method."""

    CODE: ClassVar[int] = -32601


class InvalidParameters(RemoteError):
    """The arguments do not fit the method: the message says which and why."""

    CODE: ClassVar[int] = -32602


class DeadlineExceeded(RemoteError, TimeoutError):
    """The caller's deadline passed before the method ended."""

    CODE: ClassVar[int] = -32001


class CallCancelled(RemoteError):
    """The call was cancelled, as its caller asked (the Language Server Protocol's RequestCancelled)."""

    CODE: ClassVar[int] = -32800


class ConnectionLost(AipcError, anyio.BrokenResourceError):
    """The connection ended before the answer came: it is unknown whether the method ran. Or it had ended before the call."""


_BY_CODE = {kind.CODE: kind for kind in (MethodMissing, InvalidParameters, DeadlineExceeded, CallCancelled)}


def from_wire(error: Any) -> RemoteError:
    """Return the error that a peer answered: code, message and data as a map or an array, a text, or anything else."""
    if isinstance(error, dict):
        return _made(error.get("code"), error.get("message"), error.get("data"))
    if isinstance(error, list | tuple) and len(error) in {2, 3} and isinstance(error[0], int):
        return _made(*error)
    return _made(SERVER_ERROR, error if isinstance(error, str) else repr(error), error)


def _made(code: Any, message: Any, data: Any = None) -> RemoteError:
    number = code if isinstance(code, int) else SERVER_ERROR
    return _BY_CODE.get(number, RemoteError)(number, message if isinstance(message, str) else repr(message), data)
