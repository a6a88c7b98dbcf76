"""A service that is called: it knows prices, and looks some of them up slowly.

`python examples/services/prices.py` is a demonstration: the service, and a client that gives up on a slow answer.
`python examples/services/prices.py unix:/run/prices.sock` serves until SIGTERM.
"""

import asyncio
import sys
import tempfile

import anyio

import aipc
from aipc import rpc

PRICES = {"apple": 0.5, "melon": 2.0}


class Prices:
    """The methods, and what became of the slow ones."""

    def __init__(self) -> None:
        self.looking_up: set[str] = set()
        self.given_up: list[str] = []
        self.router = rpc.Router()
        self.router.add(self.price)
        self.router.add(self.look_up)

    async def price(self, name: str) -> float:
        if name not in PRICES:
            raise rpc.RemoteError(404, f"no price for {name}")
        return PRICES[name]

    async def look_up(self, name: str) -> float:
        """It takes for ever: the caller's deadline, or its cancellation, ends it."""
        self.looking_up.add(name)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.given_up.append(name)
            raise
        finally:
            self.looking_up.discard(name)
        return 0.0


async def serve(url: str) -> None:
    async with aipc.service() as service:
        await service.listen(url, rpc.Handler(Prices().router))


async def demonstrate() -> None:
    prices = Prices()
    with tempfile.TemporaryDirectory() as directory:
        url = f"unix:{directory}/prices.sock"
        async with aipc.listen(url) as listener, asyncio.TaskGroup() as tasks:
            server = tasks.create_task(rpc.serve(listener, prices.router))
            async with rpc.connect(url) as client:
                print("an apple:", await client.call("price", "apple", returns=float))
                with anyio.move_on_after(0.05):
                    await client.call("look_up", "pear")
                while not prices.given_up:
                    await asyncio.sleep(0.001)
                print("given up at the service, too:", prices.given_up)
            server.cancel()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]) if len(sys.argv) > 1 else demonstrate())
