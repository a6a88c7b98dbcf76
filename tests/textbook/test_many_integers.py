"""Kalin's 768,000 integers: counted right, and in less processor time than asyncio's streams take for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..subjects import LONG
from .conftest import EXAMPLES

STREAMS = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[2])
import fifo_primes

async def writer():
    loop = asyncio.get_running_loop()
    file = open("fifoChannel", "wb", 0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
    stream = asyncio.StreamWriter(transport, protocol, None, loop)
    for number in fifo_primes.numbers(fifo_primes.COUNT):
        stream.write(number.to_bytes(4, sys.byteorder))
        await stream.drain()
    stream.close()

async def reader():
    prime = fifo_primes.sieve(fifo_primes.END)
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, open("fifoChannel", "rb", 0))
    total = primes = 0
    try:
        while True:
            number = await stream.readexactly(4)
            total += 1
            primes += prime[int.from_bytes(number, sys.byteorder)]
    except asyncio.IncompleteReadError:
        print(f"{total:,} integers received, {primes:,} primes")
    transport.close()

asyncio.run({"writer": writer, "reader": reader}[sys.argv[1]]())
"""


def processor_time(place: Path, *program: str) -> float:
    """Seconds of both halves, user and system."""
    spent = 0.0
    with (
        subprocess.Popen([*program, "reader"], cwd=place, stdout=subprocess.PIPE, text=True) as reader,
        subprocess.Popen([*program, "writer"], cwd=place, stdout=subprocess.DEVNULL) as writer,
    ):
        assert reader.stdout is not None
        assert reader.stdout.read() == "768,000 integers received, 60,203 primes\n"
        for half in (writer, reader):
            _, status, usage = os.wait4(half.pid, 0)
            half.returncode = os.waitstatus_to_exitcode(status)
            spent += usage.ru_utime + usage.ru_stime
    assert reader.returncode == writer.returncode == 0
    return spent


@pytest.mark.skipif(not LONG, reason="a measurement: with AIPC_TESTS=long")
def test_less_than_streams(place: Path) -> None:
    os.mkfifo(place / "fifoChannel")
    (place / "streams.py").write_text(STREAMS.replace("sys.argv[2]", repr(str(EXAMPLES))))
    streams = processor_time(place, sys.executable, "streams.py")
    ours = processor_time(place, sys.executable, str(EXAMPLES / "fifo_primes.py"))
    assert ours < streams
