"""An answer that comes soon is read by the task that asked: to park, and to be woken by the reader of the link, takes as long again.

It looks while that pays (`_io/loop/spin.py`), and only while no other task asks: the loop stands still meanwhile.
"""

from __future__ import annotations

from time import perf_counter

from aipc._io.loop.reactor import Reactor, reactor_of
from aipc.abc import Channel
from aipc.transports.byte_stream import ByteStreamChannel

_LOOKS = 128
"""Looks between two looks at the clock, some 40 µs: most answers come within."""
_IN_A_ROW = 32
"""Answers read so between two turns of the loop."""
_PAUSE = 64
"""Questions that park after two were asked at once: what is asked together goes, and is answered, with one system call."""


class Soon:
    """How the tasks of one link and loop look for their answers."""

    def __init__(self, loop: object) -> None:
        self._reactor: Reactor = reactor_of(loop)
        self._channel: ByteStreamChannel | None = None
        self._in_a_row = 0
        self._pause = 0

    def connected(self, channel: Channel) -> None:
        """What is asked goes over this channel now."""
        self._channel = None
        if isinstance(channel, ByteStreamChannel) and channel.reads_beside:
            self._channel = channel
            self._reader_spins(self._pause > 0)

    def crowded(self) -> None:
        """Two tasks have asked at once."""
        if not self._pause:
            self._reader_spins(True)
        self._pause = _PAUSE

    def _reader_spins(self, spins: bool) -> None:
        """Whether the link's reader does; while those who ask look, it must leave that to them: only one can in a loop."""
        if self._channel is not None and self._channel._incoming is not None:
            self._channel._incoming.spins = spins

    def read(self) -> bytes | None:
        """What came; None if looking does not pay any more. Errors as of the channel."""
        if self._channel is None or not self._may_look():
            return None
        channel, spin = self._channel, self._reactor.spin
        deadline = spin.wait_begins()
        if not deadline:
            return None
        try:
            spin.begins()
            while True:
                data = channel.read_beside(self._reactor, 1 if spin.brief else _LOOKS)
                if data is not None or spin.gave_enough or perf_counter() >= deadline:
                    break
                spin.give_way()
        finally:
            spin.active = False
        if data:
            self._in_a_row += 1
            spin.was_useful(at_once=False)
        else:
            spin.in_vain()
        return data or None

    def _may_look(self) -> bool:
        if self._pause:
            self._pause -= 1
            if not self._pause:
                self._reader_spins(False)
            return False
        if self._in_a_row >= _IN_A_ROW:
            self._in_a_row = 0
            return False
        return True
