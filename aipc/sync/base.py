"""The common base of the primitives: their names, opening, closing and removing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

from aipc._address import Key, keyed, options, parse
from aipc._texts.shown import Fact, parked, shown, state
from aipc.abc import Closing, stays_here

from .atomic_set import AtomicSet
from .opening import check, open_set

if TYPE_CHECKING:
    from aipc._options import PrimitiveOptions

_OPTIONS = frozenset({"create", "exclusive", "mode", "unlink", "project"})


class Primitive(Closing):
    """An object that processes share by a name: `async with aipc.Event("/run/app.ready") as event`, or await it.

    `key` is a path (no file need exist there), or `sysv-sem:0x4d2`, or the part behind that colon: a number, `private` (or None),
    a path with `project`. Options, here or in the query: `create` (default true: make it if it is missing), `exclusive`, `mode`
    (0o600), `unlink` (remove it on close; by default only a private one).

    Errors: AddressError at once for an invalid key or option; when opening, ObjectMissing (with `create=False`), ObjectExists,
    AccessDenied, WrongObject if that key has another kind of object. Every call: ClosedResourceError after `aclose`, ObjectRemoved
    when it was removed, ForkedError in a forked child, RuntimeError before it is opened.
    """

    __slots__ = ("_address", "_chosen", "_opened")
    _KIND: ClassVar[int]
    _MORE: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, key: Key, **given: Unpack[PrimitiveOptions]) -> None:
        self._begin(key, given)

    def _begin(self, key: Key, given: Mapping[str, Any]) -> None:
        """Note the key and the options. AddressError for an unknown option."""
        self._address = parse(keyed("sysv-sem", key))
        self._chosen: dict[str, Any] = options(self._address, _OPTIONS | self._MORE, given)
        check(self._address, self._chosen.get("project"))
        self._opened: AtomicSet | None = None

    @abstractmethod
    def _contents(self) -> str:
        """What `repr` tells of its values."""

    @abstractmethod
    def _first(self) -> Sequence[int]:
        """The values of a new set, after its kind. It may take options of its own out of those given."""

    def _open(self) -> Self:
        if self._opened is None:
            first = self._first()
            chosen: dict[str, Any] = {"create": True, "exclusive": False, "mode": 0o600, "unlink": None, "project": None}
            chosen |= {name: value for name, value in self._chosen.items() if name not in self._MORE}
            self._opened = open_set(self._address, chosen.pop("project"), self._KIND, first, **chosen)
        return self

    async def _opening(self) -> Self:
        return self._open()

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._opening().__await__()

    async def __aenter__(self) -> Self:
        return self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __getstate__(self) -> object:
        if self._opened is not None or self._address.path == "private":
            stays_here(self)
        return object.__getstate__(self)

    @property
    def _state(self) -> AtomicSet:
        if self._opened is None:
            raise RuntimeError(f"{self._address.url}: not open yet: await it, or use it with `async with`")
        return self._opened

    def remove(self) -> None:
        """Remove it now, for every process: every waiter gets ObjectRemoved."""
        self._state.remove()

    async def aclose(self) -> None:
        """Give back what this object holds, as the process's end would. Idempotent, also under cancellation."""
        if self._opened is not None:
            self._opened.close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._address.url
        if self._opened is None:
            yield "not open yet"
            return
        yield state(self._opened)
        yield self._contents
        yield parked(self._opened.polling)
