"""Jobs for a pool of worker processes, over one System V queue: jobs have type 1, results type 2.

`python examples/work_queue.py` makes the queue, starts three workers, collects, and removes the queue.

Each job goes to exactly one worker. All jobs together fit into the queue (16,384 bytes), so that results find room, too.
"""

import asyncio
import os
import sys

import aipc

JOB, RESULT = 1, 2
WORKERS = 3
NUMBERS = range(1_000, 1_030)


async def work(url: str) -> None:
    """A worker: square numbers until an empty job comes."""
    async with aipc.open_channel(url) as queue:
        while job := await queue.receive(type=JOB):
            number = int(job)
            await asyncio.sleep(0.01)  # the hard part
            await queue.send(f"{os.getpid()} {number} {number * number}".encode(), type=RESULT)


async def main() -> None:
    url = f"sysv-mq:{0x57000000 + os.getpid():#x}"
    async with aipc.open_channel(url, exclusive=True, unlink=True) as queue:  # ours: removed on close
        workers = [await asyncio.create_subprocess_exec(sys.executable, __file__, url) for _ in range(WORKERS)]
        try:
            await queue.send_many((str(number).encode() for number in NUMBERS), type=JOB)
            done: dict[str, int] = {}
            async with asyncio.timeout(10):
                for _ in NUMBERS:
                    pid, number, square = (await queue.receive(type=RESULT)).decode().split()
                    assert int(square) == int(number) ** 2
                    done[pid] = done.get(pid, 0) + 1
        finally:
            await queue.send_many([b""] * WORKERS, type=JOB)
            for worker in workers:
                await worker.wait()
    print(f"{sum(done.values())} jobs:", ", ".join(f"{count} by process {pid}" for pid, count in done.items()))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]) if len(sys.argv) > 1 else main())
