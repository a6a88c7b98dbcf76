"""Opening without a free descriptor: each error names the object and says why, and nothing that was made stays behind."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest

from ..conftest import LOOPS
from ..peers import process, python, said

_NEEDS_NONE = {"sysv-mq", "sysv-sem"}


IMPORTING = """
import os, resource, sys
import anyio, aipc

openers = aipc.open_channel, aipc.listen, aipc.open_lock

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    fillers = []
    try:
        while True:
            fillers.append(os.dup(0))
    except OSError:
        pass
    failures = []
    for url in sys.argv[1:]:
        for opener in openers:
            try:
                await opener(url)
            except aipc.AddressError:
                pass  # no scheme of this one
            except OSError as error:
                failures.append((url, error))
    for filler in fillers:
        os.close(filler)
    for url, error in failures:
        print(error.errno, url in str(error), flush=True)
    async with aipc.listen(sys.argv[1]):
        print("works", flush=True)

anyio.run(main)
"""


def test_importing_a_mechanism(place: Path) -> None:
    """It is imported when it is first asked for, which takes descriptors, too; it can be asked for again."""
    urls = [
        f"unix:{place}/socket",
        "shm:/x",
        "posix-mq:/x",
        "sysv-mq:private",
        "fifo:/x",
        "exec:true",
        "flock:/x",
        "tcp://[::1]:0",
    ]
    with process(sys.executable, "-c", IMPORTING, *urls) as child:
        assert child.communicate(timeout=60)[0].split("\n") == ["24 True"] * 11 + ["works", ""]
        assert child.wait(30) == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_every_opener(loop: str, place: Path) -> None:
    met: dict[str, int] = {}
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN + 9})\n"
    code += "import sys\nfrom tests.peers.exhausted import main\nmain(*sys.argv[1:])"
    with python(code, loop, str(place)) as child:
        while line := said(child):
            told = json.loads(line)
            if told is None:
                break
            name, free, kind, number, text, stays = told
            assert name in text, f"{free} free: {kind}: {text}"
            assert number in (errno.EMFILE, errno.ENFILE), f"{free} free: {kind}: {text}"
            assert "Too many open files" in text
            assert stays == [], f"{free} free: {text}"
            met[name] = met.get(name, 0) + 1
        else:
            raise AssertionError("the child did not come to its end")
        assert child.wait(30) == 0
    assert len(met) >= 30
    assert not [name for name in met if name.partition(":")[0] in _NEEDS_NONE]
