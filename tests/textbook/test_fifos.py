"""FIFOs: the lines of speak and tick, and the integers of Kalin's reader."""

from __future__ import annotations

import os
import signal

from ..peers import said, tell
from ..subjects.counts import times
from .conftest import Start, output

Pair = tuple[Start, Start]


def test_speak_and_tick(pair: Pair) -> None:
    speak, tick = pair
    with speak("speak_tick", "speak") as speaking, tick("speak_tick", "tick") as ticking:
        assert said(speaking) == "speak: waiting for readers"
        assert said(ticking) == "tick: waiting for writers"
        assert said(speaking) == "speak: got a reader, type some stuff"
        assert said(ticking) == "tick: got a writer"
        for line in ("Quack.", "Louder!"):
            tell(speaking, line)
            assert said(speaking) == f"speak: wrote {len(line)} bytes"
            assert said(ticking) == f'tick: read {len(line)} bytes: "{line}"'
        os.kill(ticking.pid, signal.SIGSTOP)  # what speak writes meanwhile waits in the FIFO
        tell(speaking, "Mawwage")
        assert said(speaking) == "speak: wrote 7 bytes"
        os.kill(ticking.pid, signal.SIGCONT)
        assert said(ticking) == 'tick: read 7 bytes: "Mawwage"'
        assert speaking.communicate("")[0] == ""  # the end of its input is that of the FIFO
        assert ticking.wait(30) == 0


def test_a_killed_tick(in_python: Start, in_c: Start) -> None:
    with in_python("speak_tick", "speak") as speaking, in_c("speak_tick", "tick") as ticking:
        assert [said(speaking) for _ in range(2)][1] == "speak: got a reader, type some stuff"
        ticking.kill()
        ticking.wait(30)
        tell(speaking, "Hello?")
        assert said(speaking) == "speak: the reader has left"
        assert speaking.wait(30) == 0


def test_integers(pair: Pair) -> None:
    count = times(4_000, 768_000)
    write, read = pair
    primes = times(308, 60_203)
    with read("fifo_primes", "reader") as reading:
        assert output(write("fifo_primes", "writer", str(count))).replace(",", "") == f"{count} integers sent\n"
        assert said(reading).replace(",", "") == f"{count} integers received {primes} primes"
