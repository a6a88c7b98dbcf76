"""Kalin, part 2, fifoWriter and fifoReader: 768,000 integers of four bytes; the reader counts the primes among them.

`python fifo_primes.py writer` and `python fifo_primes.py reader` in two terminals and one directory; without one of them, both.
`python fifo_primes.py main 1000` and `... writer 1000` write 1,000. `send_many` writes as many as fit at once: the bytes are those of the
book's program, which makes a system call for each integer. `send` in a loop would do that, too.
"""

import sys
import tempfile
from collections.abc import Iterator

import anyio

import aipc

FIFO = "fifo:fifoChannel?framing=fixed:4&create=1&mode=666"  # a message is a C int
COUNT = 768_000
END = 1_000_000


async def writer(count: str = str(COUNT)) -> None:
    async with aipc.open_channel(FIFO, direction="send") as fifo:
        await fifo.send_many(number.to_bytes(4, sys.byteorder) for number in numbers(int(count)))
    print(f"{int(count):,} integers sent")


async def reader() -> None:
    prime = sieve(END)
    total = primes = 0
    async with aipc.open_channel(FIFO, direction="receive", unlink=True) as fifo:
        try:
            while True:
                batch = await fifo.receive_many()  # all that is there
                total += len(batch)
                primes += sum(prime[int.from_bytes(data, sys.byteorder)] for data in batch)
        except anyio.EndOfStream:
            pass
    print(f"{total:,} integers received, {primes:,} primes")


def numbers(count: int) -> Iterator[int]:
    """So many below END, in no order that one sees, and always the same."""
    number = 1
    for _ in range(count):
        number = number * 16_807 % 2_147_483_647
        yield number % END


def sieve(end: int) -> bytearray:
    """1 at each prime below `end` (Eratosthenes)."""
    prime = bytearray([0, 0]) + bytearray([1]) * (end - 2)
    for number in range(2, int(end**0.5) + 1):
        if prime[number]:
            prime[number * number :: number] = bytes(len(range(number * number, end, number)))
    return prime


async def main(count: str = str(COUNT)) -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__]
        async with (
            aipc.popen([*command, "reader"], cwd=directory, framing="lines") as reads,
            aipc.popen([*command, "writer", count], cwd=directory, framing="lines") as writes,
        ):
            print((await writes.receive()).decode())
            print((await reads.receive()).decode())


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"writer": writer, "reader": reader, "main": main}[which], *arguments)
