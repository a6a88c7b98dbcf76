"""Other processes that have a queue: `python -m` this, with a role and a URL. Each tells on stdout what it does."""

from __future__ import annotations

import os
import sys
from typing import cast

import anyio

import aipc
from aipc import JobChannel


async def hold(url: str) -> None:
    """Lease one job, and keep it."""
    async with aipc.open_channel(url) as channel, cast(JobChannel, channel).lease() as job:
        print(job.data.decode(), flush=True)
        await anyio.sleep_forever()


async def consume(url: str) -> None:
    """Do jobs until one is empty, telling of each before it is done."""
    async with aipc.open_channel(url) as channel:
        while True:
            async with cast(JobChannel, channel).lease() as job:
                os.write(1, job.data + b"\n")
                if not job.data:
                    return


async def produce(url: str) -> None:
    """Send numbers, telling of each after it was sent."""
    async with aipc.open_channel(url) as channel:
        for number in range(1_000_000):
            await channel.send(b"%d" % number)
            os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    anyio.run({"hold": hold, "consume": consume, "produce": produce}[sys.argv[1]], sys.argv[2])
