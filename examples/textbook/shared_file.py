"""Kalin, part 1, producer and consumer: a file that one writes and the other reads, each with a lock on it (fcntl).

`python shared_file.py producer`, then `python shared_file.py consumer` in one directory; without an argument, both.
"""

import sys
import tempfile

import anyio

import aipc

LOCK = "fcntl:data.dat?owner=process&mode=666"
TEXT = b"Once upon a midnight dreary,\nwhile I pondered, weak and weary.\n"


async def producer() -> None:
    async with aipc.open_byte_range_lock(LOCK) as lock, lock:
        with lock.file() as file:  # any other descriptor of the file would end the lock when it is closed
            file.write(TEXT)
        print(f"producer: wrote {len(TEXT)} bytes")


async def consumer() -> None:
    async with aipc.open_byte_range_lock(LOCK, shared=True) as lock:
        if (other := lock.conflict()) is not None:
            print(f"consumer: process {other.pid} is writing, so this waits")
        async with lock:
            with lock.file() as file:
                print(file.read().decode(), end="")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for half in ("producer", "consumer"):
            async with aipc.popen([sys.executable, __file__, half], cwd=directory, framing="lines") as program:
                async for line in program:
                    print(line.decode())


if __name__ == "__main__":
    anyio.run({"producer": producer, "consumer": consumer, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
