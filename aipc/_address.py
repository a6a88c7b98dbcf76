"""URL -> Address, and the options in its query. No I/O."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from aipc.exceptions import AddressError

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*):(//(?P<authority>[^/?]*))?(?P<path>[^?]*)(\?(?P<query>.*))?", re.DOTALL)
_PASSWORD_OPTION = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]*", re.IGNORECASE)
_ENDPOINT = re.compile(r"(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+")
_PASSWORD = re.compile(r"(\Aredis[a-z+-]*://(?:[^/?@:]*:)?|\A[a-z][a-z0-9+.-]*://[^/?@:]*:(?=[^/?]*@)).*@", re.DOTALL)


class Secret:
    """A password. Nothing shows it: not `repr`, nor a traceback with local variables."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The password, for the server only."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "***" if self._value else "''"


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL: `unix:/p` and `unix:///p` mean the same."""

    url: str
    scheme: str
    path: str
    authority: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    """As text; a password as a Secret."""

    def error(self, why: str) -> AddressError:
        """Return an AddressError that names this URL."""
        return AddressError(f"{self.url!r}: {why}")

    def no_path(self, example: str) -> AddressError:
        """Return the AddressError of a URL that needs a path. In one with two slashes, what was meant is mostly a path."""
        meant = f"{self.scheme}:{'' if self.authority.startswith('@') else '/'}{self.authority}{self.path}"
        hint = f"; behind two slashes stands a host: a path has one slash or three, {meant}" if self.authority else ""
        return self.error(f"needs a path, as in {example}{hint}")


def parse(url: str) -> Address:
    """Parse a URL. AddressError if it has no scheme, or its query is malformed. The result's `url` has no password."""
    full, url = url, _PASSWORD.sub(r"\1***@", _PASSWORD_OPTION.sub(r"\1***", url))
    match = _URL.fullmatch(full)
    if match is None:
        del full  # a traceback shows it
        raise AddressError(f"{url!r}: not a URL; one looks like unix:/run/app.sock or sysv-mq:0x4d2?type=3{_meant(url)}")
    path = unquote(match["path"], errors="surrogateescape")
    if "\0" in path:
        del full, match
        raise AddressError(f"{url!r}: a path can't contain a zero byte")
    try:
        pairs = parse_qsl(
            match["query"] or "", keep_blank_values=True, strict_parsing=bool(match["query"]), errors="surrogateescape"
        )
    except ValueError:
        del full, match
        raise AddressError(f"{url!r}: the query must be name=value pairs joined by &") from None
    options = concealed(dict(pairs))
    if len(options) < len(pairs):
        del full, match, pairs
        raise AddressError(f"{url!r}: an option stands twice in the query")
    return Address(url, match["scheme"], path, unquote(match["authority"] or ""), options)


def concealed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options; what is a password is shown by nothing any more."""
    return {
        name: Secret(value) if "pass" in name.lower() and not isinstance(value, Secret) else value
        for name, value in options.items()
    }


def _meant(text: str) -> str:
    """What was probably meant by a text that is no URL."""
    if text.startswith(("/", "./", "../")):
        return f"; a Unix socket at that path is unix:{text}"
    scheme, colon, _ = text.partition(":")
    if colon and scheme != (right := scheme.lower().replace("_", "-")):
        return f"; a scheme is in lower case, with hyphens, as in {right}:"
    return f"; a TCP socket there is tcp://{text}" if _ENDPOINT.fullmatch(text) else ""


Key = int | str | os.PathLike[str] | None


def keyed(scheme: str, key: Key) -> str:
    """The URL of a System V object: `key` is a URL or the part behind its colon, a number, a path; None means private."""
    if isinstance(key, str):
        text = key.removeprefix(f"{scheme}:")
    elif isinstance(key, int):
        text = hex(key)
    else:
        text = "private" if key is None else quote(os.fsencode(key))
    return f"{scheme}:{text}"


def _boolean(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return values[text.lower()]


def _mode(text: str) -> int:
    mode = int(text, 8)
    if not 0 <= mode <= 0o777:
        raise ValueError(text)
    return mode


def _choice(*values: str) -> Callable[[str], str]:
    def parse_choice(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return parse_choice


def _size(text: str) -> int:
    size = int(text, 0)
    if size < 1:
        raise ValueError(text)
    return size


def _integer(text: str) -> int:
    return int(text, 0)


def _count(text: str) -> int:
    count = int(text, 0)
    if count < 0:
        raise ValueError(text)
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return seconds


def _project(text: str) -> int:
    project = int(text, 0)
    if not 1 <= project <= 255:
        raise ValueError(text)
    return project


def _keyword_only(text: str) -> Any:
    raise ValueError(text)


_BOOLEAN = _boolean, bool, "1 or 0"
_SIZE = _size, int, "a whole number of 1 or more"
_COUNT = _count, int, "a whole number of 0 or more"
_SECONDS = _seconds, float, "a number of seconds above 0"
_INTEGER = _integer, int, "a whole number, such as 12 or 0x0c"

OPTIONS: Mapping[str, tuple[Callable[[str], Any], type, str]] = {
    "create": _BOOLEAN,
    "exclusive": _BOOLEAN,
    "unlink": _BOOLEAN,
    "shared": _BOOLEAN,
    "undo": _BOOLEAN,
    "adopt": _BOOLEAN,
    "fds": _BOOLEAN,
    "counter": _BOOLEAN,
    "robust": _BOOLEAN,
    "shell": _BOOLEAN,
    "spin": _BOOLEAN,
    "mode": (_mode, int, "an octal file mode, such as 600 (in Python 0o600)"),
    "framing": (str, str, "a framing's name"),
    "max_message_size": _SIZE,
    "backlog": _SIZE,
    "max_connections": _SIZE,
    "capacity": _SIZE,
    "max_bytes": _SIZE,
    "max_messages": _SIZE,
    "max_attempts": _COUNT,
    "durable": _BOOLEAN,
    "db": _COUNT,
    "name": (str, str, "a name"),
    "lease_seconds": _SECONDS,
    "ttl": _SECONDS,
    "history": _COUNT,
    "patterns": (_keyword_only, object, "patterns as arguments"),
    "priority": _COUNT,
    "type": _INTEGER,
    "project": (_project, int, "a number from 1 to 255, as ftok(3) uses; that of C's 'B' is 66"),
    "value": _COUNT,
    "index": _COUNT,
    "count": _SIZE,
    "bind": (str, str, "an address of one's own"),
    "nodelay": _BOOLEAN,
    "keepalive": _BOOLEAN,
    "reuse": _BOOLEAN,
    "send_buffer": _SIZE,
    "receive_buffer": _SIZE,
    "start": _INTEGER,
    "whence": (_choice("start", "end"), str, "start or end"),
    "length": _INTEGER,
    "owner": (_choice("file", "process"), str, "file or process"),
    "direction": (_choice("receive", "send"), str, "receive or send"),
    "keep_open": _BOOLEAN,
    "wait": _BOOLEAN,
    "pid": _SIZE,
    "ssl_context": (_keyword_only, object, "an ssl.SSLContext, and a keyword"),
    "server_hostname": (str, str, "a host's name"),
    "cafile": (str, str, "a path"),
    "certfile": (str, str, "a path"),
    "keyfile": (str, str, "a path"),
    "sentinel_password": (Secret, str, "a password"),
    "ragged_end": _BOOLEAN,
    "parties": _SIZE,
    "waiters": _SIZE,
}
"""How each option is read from a query: parser, Python type, and the description of a right value."""


def options(address: Address, known: frozenset[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `address` and the keywords `given`, which win. AddressError for unknown or malformed ones."""
    merged: dict[str, Any] = {**address.options, **given}
    for name in merged:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f"; is {close[0]} meant?" if close else ""
            raise address.error(f"unknown option {name!r}; {address.scheme} takes {', '.join(sorted(known))}{meant}")
    return {name: _value(address, name, value) for name, value in merged.items()}


def _value(address: Address, name: str, value: Any) -> Any:
    parser, kind, right = OPTIONS[name]
    if isinstance(value, Secret) or (kind is object and not isinstance(value, str)):
        return value  # the mechanism checks it
    try:
        return parser(value if isinstance(value, str) else _text(name, value, kind))
    except (ValueError, KeyError):
        raise address.error(f"{name}={value!r}: must be {right}") from None


def _text(name: str, value: Any, kind: type) -> str:
    """A keyword's value as text of a query, so that one check serves both."""
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return f"{value:o}" if name == "mode" and value >= 0 else str(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if kind is bool and isinstance(value, (bool, int)):
        return str(int(value))
    raise ValueError(value)
