"""Real-time signals as a one-way channel of small integers (signal(7), sigqueue(3), signalfd(2)).

A message has 4 bytes: the C int that a signal carries, in native order. The kernel queues signals in order, up to the
receiver's RLIMIT_SIGPENDING, which all processes of its user share.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import anyio

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._io.handle import FileHandle
from aipc._io.loop.signals import check_other_threads
from aipc._io.polling import Polling
from aipc._sys.signals import mask as signal_mask
from aipc._sys.signals import signalfd
from aipc._sys.signals.numbers import REALTIME, realtime
from aipc.abc import Buffer, ChannelAttribute, Message
from aipc.exceptions import InvalidMessage, MessageTooLarge
from aipc.wire.framing import as_bytes

from ..base import TransportChannel
from ..common_options import can_spin

_INT = struct.Struct("=i")
_BATCH = 64


class _Peer(FileHandle):
    """Owns the receiver's pidfd, which names that process even if another one gets its pid."""

    __slots__ = ("_ended", "room")

    def __init__(self, pidfd: int, name: str) -> None:
        super().__init__(pidfd, name)
        self.room: Polling = Polling(self)
        self._ended = select.poll()
        self._ended.register(pidfd, select.POLLIN)

    def explain(self, error: OSError) -> Exception:
        if error.errno == errno.ESRCH and not self.closed:
            return anyio.BrokenResourceError(f"{self.name}: the process has ended")
        return super().explain(error)

    def send(self, signum: int, value: int) -> None:
        """Queue one signal. The kernel also takes signals for a zombie, and drops them: so check first (ESRCH)."""
        if self._ended.poll(0):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        signalfd.queue(self.fd, signum, value)

    def _close(self) -> None:
        self.room.close()
        super()._close()


class _Arrivals(FileHandle):
    """Owns a signalfd; while it is open, the thread blocks the signal."""

    __slots__ = ("_signum",)

    def __init__(self, signum: int, name: str) -> None:
        super().__init__(signalfd.create((signum,)), name)
        self._signum = signum
        signal_mask.block((signum,))

    def _close(self) -> None:
        super()._close()
        signal_mask.unblock((self._signum,), discard=True)


class SignalChannel(TransportChannel):
    """One real-time signal: sent to a process (`pid`), or received by this one."""

    __slots__ = ("_arrivals", "_peer", "_signum")

    def __init__(self, signum: int, peer: _Peer | None, arrivals: _Arrivals | None) -> None:
        super().__init__(None if arrivals is None else arrivals.readable)
        self._signum = signum
        # Never None where they are used: `_reading` and `_writing` refuse the missing direction.
        self._peer = cast(_Peer, peer)
        self._arrivals = cast(_Arrivals, arrivals)

    def _handles(self) -> Iterable[FileHandle]:
        ends: tuple[FileHandle | None, ...] = (self._peer, self._arrivals)
        return (end for end in ends if end is not None)

    def _open_outgoing(self) -> Polling | None:
        peer: _Peer | None = self._peer
        return None if peer is None else peer.room

    def _put(self, item: Buffer) -> None:
        self._peer.check()
        item = as_bytes(item)
        if len(item) > _INT.size:
            raise MessageTooLarge(f"{self._name}: a message of {len(item):,} bytes; a signal carries {_INT.size}, a C int")
        if len(item) < _INT.size:
            raise InvalidMessage(f"{self._name}: a message of {len(item)} bytes; a signal carries {_INT.size}, a C int")
        self._peer.send(self._signum, *_INT.unpack(item))
        self._sent += 1
        self._bytes_sent += _INT.size

    def _read(self, size: int) -> list[Message]:
        self._arrivals.check()
        records = os.read(self._arrivals.fd, size)
        arrived = [signalfd.parse(records, offset) for offset in range(0, len(records), signalfd.RECORD)]
        self._received += len(arrived)
        self._bytes_received += len(arrived) * _INT.size
        return [Message(_INT.pack(info.value or 0), sender=info.pid) for info in arrived]

    def _take_message(self) -> Message:
        return self._read(signalfd.RECORD)[0]

    def _take_many(self, most: int | None) -> list[bytes]:
        messages: list[Message] = []
        while most is None or len(messages) < most:
            wanted = _BATCH if most is None else min(_BATCH, most - len(messages))
            try:
                arrived = self._read(wanted * signalfd.RECORD)
            except OSError:
                if messages:
                    break  # the next call raises it again; these messages come first
                raise
            messages += arrived
            if len(arrived) < wanted:
                break
        return [message.data for message in messages]

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: next(iter(self._handles())).fd,
            ChannelAttribute.max_message_size: lambda: _INT.size,
        }


@can_spin
async def connect(address: Address, *, pid: int | None = None) -> SignalChannel:
    """With `pid`, open a channel that sends to that process: ObjectMissing if there is none, AccessDenied if it may not be signalled.

    Without `pid`, open a channel that receives. It blocks the signal in this thread until the channel is closed; what was not
    received by then is dropped. UnsupportedOperation if another thread does not block the signal.
    """
    try:
        signum = realtime(address.path)
    except ValueError:
        raise address.error(
            f"{address.path!r} is not a real-time signal: SIGRTMIN+1, SIGRTMAX-2, or from {REALTIME[0]} to {REALTIME[-1]}"
        ) from None
    if address.authority:
        raise address.error("has no authority part, as in signal:SIGRTMIN+1")
    if pid is None:
        await check_other_threads(frozenset((signum,)))
        return SignalChannel(signum, None, _Arrivals(signum, address.url))
    name = address.url if "pid" in address.options else f"{address.url} (pid {pid})"
    try:
        pidfd = os.pidfd_open(pid)
    except OverflowError:
        raise address.error(f"pid={pid}: no process has such a number") from None
    except OSError as error:
        raise os_error(error.errno or 0, name) from None
    peer = _Peer(pidfd, name)
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except OSError as error:
        peer.close()
        raise os_error(error.errno or 0, name) from None
    return SignalChannel(signum, peer, None)
