"""Queues, semaphores and segments: the keys are those of ftok(3), or the numbers that the books have."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import aipc

from ..peers import said, tell, wait_ended
from .conftest import Start, output

Pair = tuple[Start, Start]


def test_types(pair: Pair, place: Path) -> None:
    (place / "queue.h").touch()
    send, receive = pair
    kinds = [1, 1, 2, 2, 3, 3]
    sent = output(send("mq_types", "sender"))
    assert sent.splitlines() == [f"msg{number} sent as type {kind}" for number, kind in enumerate(kinds, 1)]
    received = output(receive("mq_types", "receiver")).splitlines()
    assert [line[-1] for line in received] == ["3", "1", "2", "1", "3", "2"]
    assert [line[:4] for line in received] == ["msg5", "msg1", "msg3", "msg2", "msg6", "msg4"]


def test_kirk_and_spock(pair: Pair, place: Path) -> None:
    (place / "kirk.c").touch()
    start_kirk, start_spock = pair
    with start_kirk("kirk_spock", "kirk") as kirk:
        assert said(kirk) == "Enter lines of text, ^D to quit:"
        with start_spock("kirk_spock", "spock") as spock:
            assert said(spock) == "spock: ready to receive messages, captain."
            tell(kirk, "Beam me up.")
            assert said(spock) == 'spock: "Beam me up."'
            assert kirk.communicate("", timeout=30)[0] == ""
            assert said(spock) == "spock: the queue was removed"


def test_two_spocks_and_a_killed_kirk(in_c: Start, in_python: Start, place: Path) -> None:
    """Each message goes to one of them. The queue stays when kirk is killed, and the next kirk uses it."""
    (place / "kirk.c").touch()
    with in_python("kirk_spock", "kirk") as kirk:
        assert said(kirk) == "Enter lines of text, ^D to quit:"
        kirk.kill()
        wait_ended(kirk)
    with in_python("kirk_spock", "spock") as one, in_c("kirk_spock", "spock") as other:
        for spock in (one, other):
            assert said(spock) == "spock: ready to receive messages, captain."
        with in_c("kirk_spock", "kirk") as kirk:
            lines = [f"line {number}" for number in range(20)]
            kirk.communicate("\n".join(lines), timeout=30)  # and he removes it, which loses what nobody has yet received
        got = [spock.communicate(timeout=30)[0].splitlines() for spock in (one, other)]
        assert all(spock[-1] == "spock: the queue was removed" for spock in got)
        received = [line for spock in got for line in spock[:-1]]
        assert len(set(received)) == len(received)
        assert set(received) <= {f'spock: "{line}"' for line in lines}


def test_semdemo(pair: Pair, place: Path) -> None:
    (place / "semdemo.c").touch()
    one, other = pair
    with one("semdemo", "semdemo") as first, other("semdemo", "semdemo") as second:
        tell(first, "")
        assert [said(first) for _ in range(4)][2] == "Locked."
        tell(second, "")
        assert [said(second) for _ in range(2)][1] == "Trying to lock..."
        tell(first, "")
        assert said(first) == "Unlocked"
        assert said(second) == "Locked."
        tell(second, "")
        assert second.communicate(timeout=30)[0].splitlines()[-1] == "Unlocked"
    assert output(one("semdemo", "semrm")) == ""


def test_semrm_while_one_waits(pair: Pair, place: Path) -> None:
    (place / "semdemo.c").touch()
    waits, removes = pair
    with removes("semdemo", "semdemo") as first:
        tell(first, "")
        assert [said(first) for _ in range(4)][2] == "Locked."
        with waits("semdemo", "semdemo") as second:
            tell(second, "")
            assert [said(second) for _ in range(2)][1] == "Trying to lock..."
            assert output(removes("semdemo", "semrm")) == ""
            second.communicate(timeout=30)
            assert second.returncode == 1  # EIDRM
        first.kill()


def test_binary_semaphore(pair: Pair, key: str) -> None:
    """P and V; a process that is killed inside posts, by SEM_UNDO."""
    one, other = pair
    assert output(one("binary_semaphore", "allocate", key)) == "allocated\n"
    with one("binary_semaphore", "enter", key) as first:
        assert [said(first) for _ in range(2)] == ["waiting", "inside"]
        with other("binary_semaphore", "enter", key) as second:
            assert said(second) == "waiting"
            first.kill()
            assert said(second) == "inside"
            tell(second, "")
            assert said(second) == "posting"
            assert second.wait(30) == 0
    assert output(other("binary_semaphore", "deallocate", key)) == "deallocated\n"


def test_shmdemo(pair: Pair, place: Path) -> None:
    (place / "shmdemo.c").touch()
    write, read = pair
    assert output(write("shmdemo", "shmdemo", "hello")) == 'writing to segment: "hello"\n'
    assert output(read("shmdemo", "shmdemo")) == 'segment contains: "hello"\n'
    aipc.remove_object("sysv-shm", f"{place}/shmdemo.c", project=ord("R"))


def test_shm1_and_shm2(pair: Pair) -> None:
    consume, produce = pair
    with consume("shm", "shm1") as consumer, produce("shm", "shm2") as producer:
        for line in ("hello", "end"):
            tell(producer, line)
            assert said(consumer) == f"You wrote: {line}"
        assert consumer.wait(30) == producer.wait(30) == 0


def test_listing_5_1(either: Start) -> None:
    assert output(either("shm", "listing")) == "segment size: 0x6400\nHello, world.\n"


def test_a_stopped_spock(pair: Pair, place: Path) -> None:
    """What kirk sends meanwhile waits in the queue."""
    (place / "kirk.c").touch()
    start_kirk, start_spock = pair
    with start_kirk("kirk_spock", "kirk") as kirk:
        assert said(kirk) == "Enter lines of text, ^D to quit:"
        with start_spock("kirk_spock", "spock") as spock:
            assert said(spock) == "spock: ready to receive messages, captain."
            os.kill(spock.pid, signal.SIGSTOP)
            for line in ("one", "two"):
                tell(kirk, line)
            os.kill(spock.pid, signal.SIGCONT)
            assert [said(spock) for _ in range(2)] == ['spock: "one"', 'spock: "two"']
            kirk.communicate("", timeout=30)
            assert said(spock) == "spock: the queue was removed"
