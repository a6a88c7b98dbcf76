"""Kalin, part 3, shutdown: the parent sends SIGTERM to its child, which cleans up and ends with status 0.

`python graceful_shutdown.py` does both. `python graceful_shutdown.py parent PROGRAM ARGUMENT...` starts that program as the child;
`python graceful_shutdown.py child` is such a child.
"""

import signal
import sys

import anyio

import aipc


async def parent(*program: str) -> None:
    async with aipc.popen(program or [sys.executable, __file__, "child"], framing="lines") as started:
        print((await started.receive()).decode())
        started.terminate()
        async for line in started:
            print(line.decode())
        await started.wait()
    print(f"parent: the child ended with {started.returncode}")


async def child() -> None:
    async with aipc.open_signal_receiver(signal.SIGTERM) as received:
        print("child: working", flush=True)
        await anext(received)
        print("child: got SIGTERM, cleaning up", flush=True)


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["parent"]
    anyio.run({"parent": parent, "child": child}[which], *arguments)
