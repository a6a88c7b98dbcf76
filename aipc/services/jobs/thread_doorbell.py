"""The doorbell for a thread without an event loop: it waits for a FIFO's descriptor, among others (`_sys.doorbell.table`)."""

from __future__ import annotations

from aipc._io.doorbell import Doorbell
from aipc._sys import membarrier
from aipc._sys.doorbell.member import member
from aipc._sys.doorbell.table import WAITERS, Call, calls

ALL = WAITERS


class ThreadDoorbell:
    """Lets other processes call a thread for some objects, each by its name, and calls them. `fd` is -1 if it cannot be called."""

    def __init__(self, *names: str) -> None:
        self._doorbells = tuple(map(Doorbell, names))
        self._marked = [False] * len(names)
        self._member = member()
        self._table = self._member.enter()
        try:
            self._column = None if self._table is None else self._member.claim()
        except OSError:  # all columns are taken
            self._column = None
        self.fd: int = -1 if self._column is None else self._column.fifo

    def wait_for(self, index: int, waits: bool) -> bool:
        """Note whether this thread waits for that object. True: it did not before, so one more try must follow."""
        if self._marked[index] == waits or self._table is None or self._column is None:
            return False
        self._marked[index] = waits
        self._table.mark(self._doorbells[index].row, self._column.waiter, waits)
        if waits:
            membarrier.full()
        return waits

    def take_calls(self) -> list[tuple[int, Call]]:
        """Return the calls that have come, each with the object's index; calls for other objects are passed on."""
        came = []
        for call in [] if self._column is None else calls(self._column):
            index = next((at for at, doorbell in enumerate(self._doorbells) if doorbell.tag == call.tag), None)
            if index is None:
                self.pass_on(call)
            else:
                came.append((index, call))
        return came

    def pass_on(self, call: Call) -> None:
        """Pass on a call that this thread did not need."""
        if self._table is not None and self._column is not None:
            self._table.call(call.tag, self._column.waiter, 1, call.until)

    def notify(self, index: int, most: int) -> None:
        """Call up to `most` other waiters of the object."""
        if most:
            self._doorbells[index].notify(min(most, WAITERS))

    def close(self) -> None:
        """Accept no more calls."""
        if self._column is not None:
            self._member.give_back(self._column)
        self._member.leave()
        for doorbell in self._doorbells:
            doorbell.close()
