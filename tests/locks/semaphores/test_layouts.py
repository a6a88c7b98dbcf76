"""What depends on the machine's byte order and on the program's word size."""

from __future__ import annotations

import ctypes
import platform
import struct
import subprocess

import pytest

import aipc
from aipc._sys import membarrier
from aipc._sys.sysv import permissions
from aipc._sys.sysv.semaphore import Semun

from ...peers import require


def test_setval_takes_the_union_as_one_word() -> None:
    """The value is what comes first in memory, in either byte order: the lower half of the word, or the upper."""
    word = ctypes.c_ulong(Semun(val=5).word)
    assert bytes(word) == struct.pack("=i", 5) + bytes(ctypes.sizeof(word) - 4)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernel's headers of other machines have their own names")
@pytest.mark.parametrize(("machine", "size", "header"), [("x86_64", 8, "64"), ("x86_64", 4, "32"), ("i686", 4, "32")])
def test_numbers_of_membarrier(machine: str, size: int, header: str) -> None:
    """A 32-bit program has other numbers than a 64-bit one on the same kernel: there, 324 is fallocate(2)."""
    require("cc")
    source = f"#include <asm/unistd_{header}.h>\n__NR_membarrier"
    done = subprocess.run(
        ("cc", "-E", "-P", "-x", "c", "-"), input=source, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout.split()[-1]) == membarrier._NUMBERS[machine, size]


@pytest.mark.anyio
async def test_status_of_a_queue_in_a_32_bit_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by name, and the queue works on. There is no such Python here, so that the constant stands for it."""
    monkeypatch.setattr(permissions, "_BITS", 32)
    async with aipc.open_channel("sysv-mq:private") as queue:
        assert isinstance(queue, aipc.SysVQueueChannel)
        with pytest.raises(aipc.UnsupportedOperation, match="64-bit Python; this one has 32 bits"):
            queue.stat()
        with pytest.raises(aipc.UnsupportedOperation, match="64-bit Python"):
            queue.change(mode=0o600)
        await queue.send(b"text", type=3)
        assert await queue.receive() == b"text"
