"""Processes that start together, work in phases, and read a table that one of them writes.

`python examples/start_together.py` starts three workers. Each has a loop of its own; what they share is in the kernel, and a
worker that is killed leaves nothing locked.
"""

import asyncio
import os
import sys
import tempfile

import aipc

WORKERS, PHASES = 3, 2


async def work(place: str, name: str) -> None:
    table = f"{place}/table"
    async with (
        aipc.Event(f"{place}/start") as start,
        aipc.Barrier(f"{place}/phase", WORKERS) as phase,
        aipc.RWLock(f"{place}/lock") as lock,
    ):
        await start.wait()
        for number in range(PHASES):
            async with lock.writer:
                with open(table, "a") as file:
                    file.write(f"phase {number}: {name}\n")
            await phase.wait()  # all have written
            async with lock.reader:
                with open(table) as file:
                    assert len(file.readlines()) == WORKERS * (number + 1)
            await phase.wait()  # all have read


async def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        async with (
            aipc.Event(f"{place}/start", unlink=True) as start,
            aipc.Barrier(f"{place}/phase", WORKERS, unlink=True),
            aipc.RWLock(f"{place}/lock", unlink=True),
        ):
            command = [sys.executable, __file__, place]
            workers = [await asyncio.create_subprocess_exec(*command, f"worker {number}") for number in range(WORKERS)]
            start.set()
            assert [await worker.wait() for worker in workers] == [0] * WORKERS
            with open(f"{place}/table") as file:
                print(f"{os.getpid()}: {len(file.readlines())} lines, from {WORKERS} workers in {PHASES} phases")


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]) if len(sys.argv) > 1 else main())
