"""The files of a queue: the SQLite database, and beside it `PATH-turn`, by whose locks processes take turns (`turn`).

The turn file also has four numbers of 8 bytes that all processes map: how many times jobs or room were added, how many times an owner
was added, roughly the KiB by which the log has grown since it was last written back, and when the present burst of turns began. The
first two are raised before the commit that they count, so a process killed in between causes one check too many, never one too few.
SQLite's own locks protect the data; without turns, writers would keep its log from being reset.

Opening the database file without SQLite, and closing it, would drop SQLite's locks of this process (fcntl(2), classic locks). So this
module only reads its status, and opens it only to create it.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._sys.files import remove_same_file, same_file
from aipc.exceptions import ObjectRemoved, WrongObject

from .turn import Turn

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_COUNTERS = 32
BESIDE = ("-wal", "-shm", "-turn")
"""The suffixes of the files beside the database."""


class QueueFiles:
    """A queue's files, and the turn."""

    def __init__(self, path: str, url: str, status: os.stat_result) -> None:
        self.path: str = path
        self.url: str = url
        self._status = status
        fd = os.open(f"{path}-turn", _FLAGS | os.O_CREAT, stat.S_IMODE(status.st_mode))
        try:
            if os.fstat(fd).st_size < _COUNTERS:
                os.ftruncate(fd, _COUNTERS)
            memory = mmap.mmap(fd, _COUNTERS)
        except BaseException:
            os.close(fd)
            raise
        self._counters = memoryview(memory).cast("Q")
        self.turn: Turn = Turn(fd, self._counters[3:])

    @property
    def identity(self) -> tuple[int, int]:
        """The database's device and inode: the same for every name of the file."""
        return self._status.st_dev, self._status.st_ino

    @property
    def changes(self) -> int:
        """The number of times that jobs or room were added."""
        return self._counters[0]

    @property
    def owners(self) -> int:
        """The number of times that an owner was added."""
        return self._counters[1]

    def count_change(self) -> None:
        """Count that jobs or room will be added. Only in a turn."""
        self._counters[0] = (self._counters[0] + 1) % 2**64

    def count_owner(self) -> None:
        """Count that an owner will be added. Only in a turn."""
        self._counters[1] = (self._counters[1] + 1) % 2**64

    @property
    def log(self) -> int:
        """Roughly the KiB by which the log has grown since it was last written back."""
        return self._counters[2]

    @log.setter
    def log(self, size: int) -> None:
        self._counters[2] = size % 2**64

    def check(self) -> None:
        """ObjectRemoved if the database's path no longer names it."""
        if not same_file(self.path, self._status):
            raise ObjectRemoved(f"{self.url}: removed while in use")

    def remove(self) -> None:
        """Remove the files, if the path still names this queue. Only in a turn."""
        if same_file(self.path, self._status):
            remove_same_file(self.path, self._status)
            for end in BESIDE:
                try:
                    os.unlink(self.path + end)
                except FileNotFoundError:
                    continue

    def close(self) -> None:
        """Close the turn file."""
        self._counters.release()
        self.turn.close()


def open_files(address: Address, *, create: bool, exclusive: bool, mode: int) -> QueueFiles:
    """Open the files at the address's path. ObjectMissing, ObjectExists, WrongObject if it is not a plain file."""
    if not address.path or address.authority:
        raise address.no_path(f"{address.scheme}:/var/lib/app.jobs")
    path = os.path.abspath(address.path)
    made = (create or exclusive) and _made(path, address.url, exclusive, mode)
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise WrongObject(errno.EINVAL, f"{address.url}: not a plain file")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise os_error(errno.EACCES, address.url, "a queue takes permission to read and write the file")
    try:
        return QueueFiles(path, address.url, status)
    except BaseException:
        if made:
            remove_same_file(path, status)
        raise


def _made(path: str, url: str, exclusive: bool, mode: int) -> bool:
    """Make the empty file `path` with exactly `mode`. False if there is one."""
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        if exclusive:
            raise os_error(errno.EEXIST, url, "the file exists, and exclusive was asked for") from None
        return False
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    return True
