"""`python -m benchmarks.services.jobs`: jobs a second from a queue that is full: 8 processes with one job each, and one process with 50 tasks."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter

import anyio
import uvloop

import aipc

PROCESSES, JOBS = 8, 20_000
TASKS, MANY_JOBS = 50, 60_000
ROUNDS, IDLE = 3, 0.5
_PROMISED_PROCESSES, _PROMISED_TASKS, _PROMISED_LAG = 5_000, 20_000, 0.020


async def fill(path: str, count: int) -> None:
    async with aipc.open_jobs(f"jobs:{path}", create=True) as queue:
        await queue.send_many([b"%032d" % number for number in range(count)])


async def consume(path: str, tasks: int) -> dict[str, float]:
    """Lease until no job has come for a while: how many jobs, from when to when, and how late the loop was (seconds, p99)."""
    done, end = 0, 0.0
    lags = [0.0]

    async def work() -> None:
        nonlocal done, end
        while True:
            async with queue.lease():
                done += 1
            end = perf_counter()

    async with aipc.open_jobs(f"jobs:{path}") as queue:
        print("up", flush=True)
        sys.stdin.readline()
        start = end = perf_counter()
        async with anyio.create_task_group() as workers:
            for _ in range(tasks):
                workers.start_soon(work)
            while perf_counter() < end + IDLE:
                before = perf_counter()
                await anyio.sleep(0.005)
                lags.append(perf_counter() - before - 0.005)
            workers.cancel_scope.cancel()
    return {"done": done, "start": start, "end": end, "lag": statistics.quantiles(lags, n=100)[98]}


def measure(processes: int, tasks: int, jobs: int) -> tuple[float, float]:
    """Jobs a second, and the loops' lag."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/app.jobs"
        uvloop.run(fill(path, jobs))
        command = [sys.executable, "-m", "benchmarks.services.jobs", path, str(tasks)]
        running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        results = [json.loads(one.communicate()[0]) for one in running]
    done = sum(result["done"] for result in results)
    if done != jobs:
        raise SystemExit(f"{done} jobs were done, of {jobs}")
    begin, end = min(result["start"] for result in results), max(result["end"] for result in results)
    return done / (end - begin), max(result["lag"] for result in results)


def main(rounds: int = ROUNDS) -> int:
    """Print the rates; 1 if a promise does not hold."""
    kept = True
    for processes, tasks, jobs, promised in (
        (PROCESSES, 1, JOBS, _PROMISED_PROCESSES),
        (1, TASKS, MANY_JOBS, _PROMISED_TASKS),
    ):
        rate, lag = (
            statistics.median(column) for column in zip(*(measure(processes, tasks, jobs) for _ in range(rounds)), strict=True)
        )
        well = rate >= promised and lag <= _PROMISED_LAG
        kept = kept and well
        print(
            f"{'ok    ' if well else 'MISSED'} {processes} processes, {tasks} tasks each: {rate:8,.0f} jobs/s, lag p99 {lag * 1e3:.1f} ms"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(uvloop.run(consume(sys.argv[1], int(sys.argv[2])))))
    else:
        sys.exit(main())
