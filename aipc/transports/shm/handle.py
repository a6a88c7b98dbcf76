"""What a channel over rings owns: the doorbell's socket, the memory, and both ends of the two rings."""

from __future__ import annotations

import mmap
import os
import socket
import weakref
from contextlib import suppress
from typing import cast

import anyio

from aipc._io.handle import SocketHandle
from aipc._io.loop import backend
from aipc._sys import membarrier, memfd, rights
from aipc.exceptions import ProtocolError
from aipc.wire.ring import LARGEST, Peer, capacity_of, memory_size, prepare
from aipc.wire.ring_consumer import Consumer
from aipc.wire.ring_producer import Producer

from .readiness import RingReadable, RingWritable

HELLO = b"aipcshm1"
_DRAIN = 4096
_MOST_DRAINS = 16  # a peer that sends wake-ups without end must not keep the loop busy
_PAUSES = [1e-3 * 2**number for number in range(12)]  # seconds between rings that the kernel refuses: 4 in all


class RingHandle(SocketHandle):
    """Owns the doorbell's socket and the mapping."""

    __slots__ = ("_refused", "_retrying", "_words", "consumer", "gone", "memory", "producer")

    def __init__(self, sock: socket.socket, name: str, sends: int, limit: int, window: int = LARGEST) -> None:
        super().__init__(sock, name)
        self.memory: mmap.mmap | None = None
        self.gone: bool = False
        self._retrying = False
        self._refused: Exception | None = None
        barriers = membarrier.Barriers()
        bell = cast(Peer, weakref.proxy(self))  # the loop knows the ends while it watches for records: a dropped channel goes
        self.producer: Producer = Producer(sends, bell, barriers, window)
        self.consumer: Consumer = Consumer(1 - sends, bell, barriers, limit)
        self.readable: RingReadable = RingReadable(self, self.fd, self.consumer)
        self._writable = RingWritable(self, self.producer, self.readable)

    def offer(self, capacity: int) -> None:
        """Make the memory, and show it to the peer. BrokenResourceError: it has hung up already. OSError: the kernel's, named."""
        try:
            fd = memfd.create("aipc ring", memory_size(capacity))
            try:
                self._attach(fd, new=True)
                rights.send(self.socket(), [HELLO], [fd])
            finally:
                os.close(fd)
        except OSError as error:
            raise self.explain(error) from error

    def meet(self) -> None:
        """Take the memory that the peer offers. BlockingIOError: it has not done so yet. WrongObject, ProtocolError: it will not."""
        if self._refused is None:
            try:
                self._receive_offer()
            except BlockingIOError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no second offer
                self._refused = error
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        self.readable.wake_all()

    def _receive_offer(self) -> None:
        received = rights.receive(self.socket(), len(HELLO))
        try:
            if received.data != HELLO or len(received.fds) != 1:
                said = f"said {received.data!r} with {len(received.fds)} descriptors" if received.data else "hung up"
                raise ProtocolError(f"{self.name}: the peer {said}, where {HELLO!r} with one belongs")
            self._attach(received.fds[0])
        except OSError as error:
            raise self.explain(error) from error
        finally:
            rights.close(received.fds)

    def _attach(self, fd: int, *, new: bool = False) -> None:
        """Map the memory behind `fd`, and work in it. WrongObject, ProtocolError, AccessDenied: it can't be trusted."""
        size = memfd.check(fd)
        capacity_of(size)
        self.memory = mmap.mmap(fd, size)
        self._words = memoryview(self.memory).cast("Q")
        if new:
            prepare(self._words)
        self.producer.attach(self.memory, self._words)
        self.consumer.attach(self.memory, self._words)

    def view(self, start: int, end: int) -> memoryview:
        """A part of the memory."""
        return memoryview(cast("mmap.mmap", self.memory))[start:end]

    def wake_peer(self) -> bool:
        """Wake the peer: one byte to its socket, unless it has many there already.

        False if it is gone, or the kernel refuses, as it may without memory (ENOBUFS): then a task tries again, if a loop runs.
        """
        sock = self.socket()
        try:
            sock.send(b"\0", socket.MSG_NOSIGNAL)
        except BlockingIOError:
            pass
        except ConnectionError:
            self.gone = True
        except OSError:
            if not self._retrying and backend.running():
                self._retrying = True
                backend.start_soon(self._retry_wake)
            return False
        return not self.gone

    async def _retry_wake(self) -> None:
        """Retry until the kernel allows the wake-up. After some seconds hang up, which it always allows: no peer sleeps for ever."""
        try:
            for pause in _PAUSES:
                await anyio.sleep(pause)
                if self.closed or self.forked or self.wake_peer() or self.gone:
                    return
            self.socket().shutdown(socket.SHUT_RDWR)
        finally:
            self._retrying = False

    def drain_doorbell(self) -> bool:
        """Drain the doorbell for all tasks that wait for it. Return whether the peer has closed its end."""
        if self.gone or self.memory is None:
            return self.gone
        for drained in range(_MOST_DRAINS):
            try:
                self.gone = not self.socket().recv(_DRAIN)
            except BlockingIOError:
                if drained:
                    self.wake_all()
                return False
            except ConnectionError:
                self.gone = True
            if self.gone:
                self.wake_all()
                return True
        self.wake_all()
        self.readable.rearm()
        return False

    def wake_all(self) -> None:
        """Let all tasks that wait for the doorbell look again. The peer need not wake this end until they sleep again."""
        self.producer.awake()
        self.consumer.awake()
        self.readable.wake_all()

    def end_writing(self) -> None:
        """A mark in the ring: the doorbell must go on working."""
        self.producer.end()

    def _close(self) -> None:
        self.producer.close()
        self.consumer.close()
        super()._close()
        if self.memory is not None:
            self._words.release()
            with suppress(BufferError):  # a view is still out: the mapping goes with it
                self.memory.close()
