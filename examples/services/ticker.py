"""A ticker with five subscribers, each a process: one copy of each message for all of them.

`python examples/services/ticker.py` publishes 3,000 prices. A subscriber that is too slow misses some, and says how many.
"""

import asyncio
import os
import sys
import tempfile

import aipc

PRICES, SUBSCRIBERS = 3_000, 5
PAIRS = ("eur.usd", "eur.jpy", "gbp.usd")


async def tick(publisher: aipc.Publisher, prices: int = PRICES) -> None:
    """Publish prices, and then the end of each pair."""
    for number in range(prices):
        await publisher.publish(PAIRS[number % len(PAIRS)], b"%d" % number)
    for pair in PAIRS:
        await publisher.publish(pair, b"end")


async def watch(url: str, pattern: str) -> tuple[int, int]:
    """Count until a pair ends: how many prices came, and how many were missed."""
    got = 0
    async with aipc.open_subscriber(url, pattern) as prices:
        async for price in prices:
            if price.data == b"end":
                break
            got += 1
        return got, prices.missed


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"shm:{directory}/ticker"
        async with aipc.open_publisher(url) as publisher:
            watchers = [await asyncio.create_subprocess_exec(sys.executable, __file__, url) for _ in range(SUBSCRIBERS)]
            async with asyncio.timeout(20):
                await publisher.wait_subscribers(SUBSCRIBERS)
                await tick(publisher)
                assert [await watcher.wait() for watcher in watchers] == [0] * SUBSCRIBERS


async def child(url: str) -> None:
    got, missed = await watch(url, "eur.usd")
    assert got + missed == PRICES // len(PAIRS)
    print(f"process {os.getpid()}: {got} prices of eur.usd, {missed} missed")


if __name__ == "__main__":
    asyncio.run(child(sys.argv[1]) if len(sys.argv) > 1 else main())
