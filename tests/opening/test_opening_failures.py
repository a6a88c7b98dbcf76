"""A system call in the middle of opening fails: the error names the object, and what had been made is removed again.

The kernel fails it, by a seccomp filter in a child process.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ..peers import isolated, python
from ..subjects import new_key, new_name

CHILD = """
import os, sys
import anyio, aipc
from aipc.testing import kernel_objects
from tests.peers.failing import fail

def there():
    return kernel_objects() | frozenset(os.listdir())

async def main(opening, call, code):
    before = there()
    fail(call, code)
    try:
        await opening
    except Exception as error:
        print(type(error).__name__, error.errno, error)
    print(sorted(there() - before))

os.chdir(sys.argv[4])
anyio.run(main, eval(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""

UNIX = ("listen('unix:here')", "listen('unix+seqpacket:here')", "listen('shm:here')")
ROWS = [
    *(("chmod", errno.EPERM, "AccessDenied", opening) for opening in UNIX),
    ("chmod", errno.EPERM, "AccessDenied", "open_channel('unix+dgram:?bind=here')"),
    ("chmod", errno.EPERM, "AccessDenied", "open_channel('fifo:here?create=1')"),
    ("chmod", errno.EPERM, "AccessDenied", "open_lock('posix-sem:NAME?create=1')"),
    *(("listen", errno.EOPNOTSUPP, "OSError", opening) for opening in UNIX),
    ("listen", errno.EADDRINUSE, "ObjectExists", "listen('tcp://127.0.0.1:0')"),
    ("fchmod", errno.EPERM, "AccessDenied", "listen('unix:here')"),
    ("fchmod", errno.EPERM, "AccessDenied", "open_channel('posix-mq:NAME?create=1')"),
    ("fchmod", errno.EPERM, "AccessDenied", "open_lock('flock:here')"),
    ("fchmod", errno.EPERM, "AccessDenied", "open_lock('fcntl:here')"),
    ("semop", errno.ENOSPC, "NoSpace", "open_lock('sysv-sem:KEY?create=1')"),
    ("semop", errno.ENOMEM, "NoSpace", "open_lock('sysv-sem:private')"),
    ("semop", errno.ENOMEM, "NoSpace", "Event('sysv-sem:private')"),
    ("semop", errno.ENOMEM, "NoSpace", "Barrier('sysv-sem:KEY', parties=2)"),
    ("msgget", errno.ENOMEM, "NoSpace", "open_channel('sysv-mq:KEY?create=1')"),
    ("mq_open", errno.ENOMEM, "NoSpace", "open_channel('posix-mq:NAME?create=1')"),
    ("mq_open", errno.ENFILE, "LimitExceeded", "open_channel('posix-mq:NAME?create=1')"),
]


@pytest.mark.parametrize(("call", "code", "kind", "opening"), ROWS, ids=lambda value: str(value).partition(":")[0])
def test_a_call_that_fails(call: str, code: int, kind: str, opening: str, place: Path) -> None:
    opening = opening.replace("KEY", new_key()).replace("NAME", new_name())
    with python(CHILD, f"aipc.{opening}", call, str(code), str(place)) as child:
        told = child.communicate(timeout=60)[0].splitlines()
    assert len(told) == 2, told
    assert told[0].startswith(f"{kind} {code} ")
    assert opening.split("'")[1] in told[0]
    assert told[1] == "[]"


def test_as_many_queues_as_the_kernel_allows() -> None:
    said = isolated(
        "import asyncio, aipc\n"
        "open('/proc/sys/kernel/msgmni', 'w').write('0')\n"
        "async def main():\n"
        "    try:\n"
        "        await aipc.open_channel('sysv-mq:private')\n"
        "    except aipc.NoSpace as error:\n"
        "        print(error.errno, error)\n"
        "asyncio.run(main())\n"
    )
    assert said.startswith(f"{errno.ENOSPC} ")
    assert "sysv-mq:private" in said
    assert "kernel.msgmni" in said
