"""What locks share: waiting by polling, one holder count for this object, release on close."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from aipc._io.handle import Handle
from aipc._io.polling import Polling


class LockHandle(Handle):
    """Owns a lock's kernel object: what to wait with, and how to let go of it."""

    __slots__ = ("polling",)

    def __init__(self, name: str, hopeful: Callable[[], bool], *object_names: str) -> None:
        super().__init__(name)
        self.polling: Polling = Polling(self, hopeful, *object_names)

    def _close(self) -> None:
        try:
            self._let_go()
            self.polling.announce()
        finally:
            self.polling.close()

    @abstractmethod
    def _let_go(self) -> None:
        """Release what is held and give back descriptors."""

    def checked(self) -> None:
        """For plain calls: ClosedResourceError or ForkedError if this object can't be used."""
        try:
            self.check()
        except OSError as error:
            raise self.explain(error) from None
