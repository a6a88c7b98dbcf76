"""A job service: each process works, and one of them, the leader, sends the jobs of each round.

`python examples/services/job_service.py` starts three processes on a queue in a temporary directory, kills the leader, and shows that
another one goes on. The leader is whoever has the lock; the kernel releases it when its process ends.
"""

import asyncio
import os
import signal
import sys
import tempfile

import aipc

ROUNDS, JOBS_A_ROUND = 4, 5


async def lead(lock_url: str, queue: aipc.JobChannel) -> None:
    """Wait to be the leader, and send rounds of jobs from then on."""
    async with aipc.open_lock(lock_url, create=True) as lock, lock:
        print(f"leader {os.getpid()}", flush=True)
        while True:
            await queue.send_many([b"job"] * JOBS_A_ROUND)
            await asyncio.sleep(0.05)


async def work(queue: aipc.JobChannel) -> None:
    """Do jobs. One that is interrupted, by whatever, is another worker's."""
    while True:
        async with queue.lease() as job:
            await asyncio.sleep(0.001)
            print(f"done {job.id}", flush=True)


async def serve(directory: str) -> None:
    """One process of the service, until it is cancelled."""
    url = f"jobs:{directory}/queue"
    async with aipc.open_jobs(url, create=True, max_attempts=5, max_messages=100) as queue, asyncio.TaskGroup() as tasks:
        tasks.create_task(lead(f"flock:{directory}/leader", queue))
        tasks.create_task(work(queue))


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        pipe = asyncio.subprocess.PIPE
        processes = [await asyncio.create_subprocess_exec(sys.executable, __file__, directory, stdout=pipe) for _ in range(3)]
        leaders: asyncio.Queue[int] = asyncio.Queue()
        done: set[str] = set()
        enough = asyncio.Event()

        async def listen(process: asyncio.subprocess.Process) -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                what, number = line.decode().split()
                if what == "leader":
                    leaders.put_nowait(int(number))
                else:
                    done.add(number)
                    if len(done) >= ROUNDS * JOBS_A_ROUND:
                        enough.set()

        async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
            for process in processes:
                tasks.create_task(listen(process))
            first = await leaders.get()
            os.kill(first, signal.SIGKILL)
            second = await leaders.get()
            assert second != first
            await enough.wait()
            for process in processes:
                if process.returncode is None:
                    process.kill()
        for process in processes:
            await process.wait()
    print(f"{len(done)} jobs done, under two leaders")


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]) if len(sys.argv) > 1 else main())
