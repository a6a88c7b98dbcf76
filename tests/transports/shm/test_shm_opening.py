"""`open_channel("shm:…")` that fails between connecting and offering its memory: an error that names the URL, and nothing left."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io.loop import backend
from aipc.exceptions import LimitExceeded, NoSpace

from ...conftest import LOOPS
from ...seccomp import judged


async def open_in_vain(url: str, error: type[Exception], descriptors: list[int]) -> None:
    descriptors.append(len(os.listdir("/proc/self/fd")))
    with anyio.fail_after(10), pytest.raises(error, match=url):
        await aipc.open_channel(url)
    descriptors.append(len(os.listdir("/proc/self/fd")))


@pytest.mark.parametrize("loop", LOOPS)
def test_listener_hangs_up(loop: str, place: Path) -> None:
    """At the worst moment: the client is about to send its memory."""
    url = f"shm:{place}/ring"
    descriptors: list[int] = []
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(f"{place}/ring")
        listening.listen()

        def hang_up(*_: object) -> int:
            listening.accept()[0].close()
            return 0

        opening = partial(open_in_vain, url, anyio.BrokenResourceError, descriptors)
        judged(("sendmsg",), hang_up, partial(backend.run, loop, opening))
    assert descriptors[0] == descriptors[1]


REFUSALS = [
    ("memfd_create", errno.EMFILE, OSError),
    ("memfd_create", errno.ENOMEM, NoSpace),
    ("sendmsg", errno.ETOOMANYREFS, LimitExceeded),
    ("sendmsg", errno.ENOBUFS, OSError),
]


@pytest.mark.parametrize(("call", "code", "error"), REFUSALS)
@pytest.mark.parametrize("loop", LOOPS)
def test_kernel_refuses(loop: str, call: str, code: int, error: type[Exception], place: Path) -> None:
    url = f"shm:{place}/ring"
    descriptors: list[int] = []
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(f"{place}/ring")
        listening.listen()
        opening = partial(open_in_vain, url, error, descriptors)
        judged((call,), lambda *_: code, partial(backend.run, loop, opening))
    assert descriptors[0] == descriptors[1]
