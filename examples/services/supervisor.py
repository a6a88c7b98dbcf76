"""A supervisor: it starts the price service of `prices.py`, then two clients, one of which crashes now and then.

`python examples/services/supervisor.py` runs until the unreliable client has been restarted twice, and then stops all in order.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import aipc
from aipc import rpc

HERE = Path(__file__).parent


def programs(url: str) -> list[aipc.Program]:
    """The service says when it is ready (`aipc.service` does); the clients start after that."""
    me = [sys.executable, __file__, url]
    return [
        aipc.Program("prices", [sys.executable, str(HERE / "prices.py"), url], notify=True),
        aipc.Program("client", [*me, "reliable"]),
        aipc.Program("unreliable", [*me, "unreliable"], restart="on-failure", backoff=0.01, max_restarts=10),
    ]


async def ask(url: str, kind: str) -> None:
    async with rpc.connect(url) as client:
        print("an apple:", await client.call("price", "apple", returns=float), flush=True)
        if kind == "reliable":
            await client.call("look_up", "pear")  # until it is stopped
    sys.exit("no more today")


async def main() -> None:
    def show(line: aipc.ProgramLine) -> None:
        print(f"{line.program} ({line.stream}): {line.text.decode()}")

    with tempfile.TemporaryDirectory() as directory:
        async with aipc.supervise(programs(f"unix:{directory}/prices.sock"), on_line=show) as supervisor:
            await supervisor.wait_ready()
            while supervisor.status()["unreliable"].restarts < 2:
                await asyncio.sleep(0.01)
        for status in supervisor.status().values():
            print(f"{status.name}: {status.state}, {status.outcome}")


if __name__ == "__main__":
    asyncio.run(ask(*sys.argv[1:]) if len(sys.argv) > 1 else main())
