"""Run a job only if no other process is running it, as a cron job should.

`python examples/exclusive_job.py` is a demonstration: two instances at once.
`python examples/exclusive_job.py /tmp/job.lock` is one instance, which works until Ctrl-D: run it twice.

The kernel frees the lock when its holder dies, however it dies: there is no stale lock to remove. The file stays.
"""

import asyncio
import os
import sys
import tempfile

import anyio

import aipc


async def run_once(path: str) -> None:
    async with aipc.open_lock(f"flock:{path}") as lock:
        try:
            lock.acquire_nowait()
        except anyio.WouldBlock:
            print(f"{os.getpid()}: process {lock.holder()} is at it already", flush=True)
            return
        print(f"{os.getpid()}: working", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # the job: here, until the input ends
        lock.release()


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/job.lock"
        pipe = asyncio.subprocess.PIPE
        first = await asyncio.create_subprocess_exec(sys.executable, __file__, path, stdin=pipe, stdout=pipe)
        try:
            assert first.stdout is not None
            print((await first.stdout.readline()).decode(), end="")
            await run_once(path)  # the second instance: gives up at once
        finally:
            await first.communicate(b"")  # ends its input
        async with aipc.open_lock(f"flock:{path}") as lock:
            assert not lock.locked()
            print("free again")


if __name__ == "__main__":
    asyncio.run(run_once(sys.argv[1]) if len(sys.argv) > 1 else demonstrate())
