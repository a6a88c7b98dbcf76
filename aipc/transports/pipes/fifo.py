"""FIFOs: pipes with a name (fifo(7)).

The receiver opens at once, and its first `receive` waits for the first writer; opening a sender waits for a reader. Neither blocks
the loop: POLLHUP (poll(2)) tells "the last writer left" from "no writer yet", and ENXIO tells a sender that there is no reader. No
event tells that a reader arrives: inotify(7) does not report one that waits in open(2).
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio

from aipc._address import Address
from aipc._io.errors import os_error, translate
from aipc._io.handle import AddressHandle
from aipc._sys import pipes
from aipc._sys.files import remove_same_file, same_file
from aipc.abc import Buffer
from aipc.exceptions import AipcError, NobodyListens, WrongObject
from aipc.wire.framing import MAX_MESSAGE_SIZE, Frame, Framing
from aipc.wire.framing import framing as framing_named

from ..byte_stream import READ_SIZE
from ..common_options import can_spin
from ..frame_sender import Unfinished, size_of
from .fifo_write_lock import FifoWriterHandle
from .pipe_end import PipeEnd, set_capacity


class _NoWriterYet(BlockingIOError):
    """No process has opened the FIFO for writing since it was opened here."""


class _FifoHandle(FifoWriterHandle):
    """Owns one end, and the file's name, if that is removed on close."""

    __slots__ = ("path",)

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, name)
        self.path: str | None = None
        """The path to remove."""

    def _close(self) -> None:
        if self.path is not None and same_file(self.path, os.fstat(self.fd)):
            with suppress(OSError):  # already removed, or no permission any more
                os.unlink(self.path)
        super()._close()


class FifoReceiver(PipeEnd):
    """Receives the messages of all writers."""

    __slots__ = ()

    def meet(self) -> None:
        """Read ahead. BlockingIOError until a writer has come; its data, or its end, is kept for the first `receive`."""
        try:
            self._fill()
        except _NoWriterYet:
            raise
        except (BlockingIOError, AipcError, anyio.EndOfStream):
            pass

    def _read(self) -> bytes:
        fd = self._reader.fd
        data = os.read(fd, READ_SIZE)
        while not data and not self._bytes_received:
            events = pipes.events(fd)
            if events & select.POLLIN:  # a writer came in between
                data = os.read(fd, READ_SIZE)
            elif events & select.POLLHUP:
                break
            else:
                raise _NoWriterYet
        return data


class FifoSender(PipeEnd):
    """Sends beside other writers: each whole message under the writers' lock."""

    __slots__ = ("_owes", "_turn")

    def __init__(self, handle: FifoWriterHandle, framing: Framing) -> None:
        super().__init__(handle, framing, sends=True)
        self._turn = handle.write_lock
        self._owes = False  # release the lock once the unfinished message is written

    async def send(self, item: Buffer, **meta: Any) -> None:
        waiting = self._writing(meta)
        frame = self._framing.encode(item)
        if self._unfinished is None and size_of(frame) <= self._turn.PIECE:
            try:
                waiting.try_now(self._put_piece, frame)
            except OSError:
                pass  # the long way waits, or words the error
            else:
                return
        await self._send_frames(frame, (frame,))

    def _put_piece(self, frame: Frame) -> None:
        """The kernel writes all of it or nothing."""
        self._turn.acquire_nowait(size_of(frame))
        try:
            self._write(frame)
        finally:
            self._turn.release()
        self._sent += 1

    async def _send_frames(self, frame: Frame, frames: Sequence[Frame]) -> None:
        size = size_of(frame)
        if self._unfinished is not None:
            await self._writing({}).attempt(self._flush, self._unfinished)
        await self._turn.attempt(self._turn.acquire_nowait, size)
        try:
            await self._turn.wait_for_room(size)
            await super()._send_frames(frame, frames)
        finally:
            self._end_turn()

    def _put_frame(self, frame: Frame, **meta: Any) -> None:
        size = size_of(frame)
        if self._unfinished is not None:
            self._flush(self._unfinished)
        self._turn.acquire_nowait(size)
        try:
            if not self._turn.has_room(size):
                raise BlockingIOError
            super()._put_frame(frame, **meta)
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._unfinished is None:
            self._turn.release()
        else:
            self._owes = True

    def _flush(self, unfinished: Unfinished) -> None:
        super()._flush(unfinished)
        if self._owes and self._unfinished is None:
            self._owes = False
            self._turn.release()


@can_spin
async def connect(
    address: Address,
    *,
    direction: str = "receive",
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    keep_open: bool = False,
    wait: bool | None = None,
    create: bool = False,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool = False,
    capacity: int | None = None,
) -> FifoReceiver | FifoSender:
    """Open one end of a FIFO. ObjectMissing if there is none (unless `create`), WrongObject if it is something else.

    `wait`: wait until the other side is there; by default a sender does. A sender with `wait=0` and no receiver is NobodyListens.
    `keep_open`: also hold the other end, and do not wait: a receiver's stream never ends, and a sender's never breaks. A new FIFO
    has exactly `mode`, whatever the umask; `unlink` removes it on close. Cancelled: nothing was opened, and nothing that was made
    for it is left.
    """
    if not address.path or address.authority:
        raise address.no_path("fifo:/tmp/x?direction=receive")
    if keep_open and wait:
        raise address.error("wait=1 and keep_open=1: a channel with both ends open has nothing to wait for")
    chosen = framing_named(framing, max_message_size)
    path = os.path.abspath(address.path)  # noqa: ASYNC240 - reads the working directory at most
    made = _make(path, mode, exclusive, address.url) if create or exclusive else None
    channel: FifoReceiver | FifoSender | None = None
    try:
        flags = os.O_RDWR if keep_open else os.O_WRONLY if direction == "send" else os.O_RDONLY
        handle = await _open(path, flags, wait is not False, address.url)
        channel = FifoSender(handle, chosen) if direction == "send" else FifoReceiver(handle, chosen, sends=False)
        if capacity is not None:
            set_capacity(handle.fd, capacity, address.url)
        if wait and isinstance(channel, FifoReceiver):
            await _meet(channel, address.url)
    except BaseException:
        if channel is not None:
            channel.close()
        if made is not None:
            remove_same_file(path, made)
        raise
    handle.path = path if unlink else None
    return channel


def _make(path: str, mode: int, exclusive: bool, name: str) -> os.stat_result | None:
    """Make the FIFO, and return its status; None if the path exists."""
    try:
        os.mkfifo(path, mode)  # less the umask: never more permissions than asked, even briefly
        made = os.lstat(path)
        if not stat.S_ISFIFO(made.st_mode) or made.st_uid != os.geteuid():
            return None  # replaced by something else since
        try:
            _set_mode(path, made, mode)
        except BaseException:
            remove_same_file(path, made)
            raise
    except FileExistsError:
        if exclusive:
            raise os_error(errno.EEXIST, name, "the file exists, and exclusive was asked for") from None
        return None
    except OSError as error:
        raise translate(error, name) from None
    return made


def _set_mode(path: str, made: os.stat_result, mode: int) -> None:
    """Undo the umask, for exactly that file."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(fd), made):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


async def _open(path: str, flags: int, wait: bool, name: str) -> _FifoHandle:
    """Open it once the kernel allows it; only a sender may have to `wait`."""
    opening = AddressHandle(name)
    try:
        if wait:
            fd = await opening.polling.attempt(_try_open, path, flags, name)
        else:
            fd = opening.polling.attempt_nowait(_try_open, path, flags, name)
        return _FifoHandle(fd, name)
    except anyio.WouldBlock:
        raise NobodyListens(errno.ENXIO, f"{name}: no process has the FIFO open to receive; wait=1 waits for one") from None
    finally:
        opening.close()


def _try_open(path: str, flags: int, name: str) -> int:
    """Open the file of that name, if it is a FIFO; no other file is opened, even briefly. BlockingIOError without a reader."""
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise os_error(errno.ENOENT, name, "there is no such file; create=1 makes it") from None
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISFIFO(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "not a FIFO"
            raise WrongObject(errno.EINVAL, f"{name}: {what}; it was left alone")
        return os.open(f"/proc/self/fd/{found}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise BlockingIOError from None
        raise
    finally:
        os.close(found)


async def _meet(receiver: FifoReceiver, name: str) -> None:
    opening = AddressHandle(name)
    try:
        await opening.polling.attempt(receiver.meet)
    finally:
        opening.close()
