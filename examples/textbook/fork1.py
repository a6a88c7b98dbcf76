"""Beej, "A fork() primer", fork1: the parent waits for its child, which reads its exit status from standard input.

`python fork1.py` is a demonstration. `python fork1.py parent PROGRAM ARGUMENT...` starts that program, and waits; `python fork1.py child`
is such a program.
"""

import sys

import anyio

import aipc


async def parent(*program: str) -> None:
    """The child has this program's standard input and output."""
    print("PARENT: waiting for the child", flush=True)
    async with aipc.popen(program or [sys.executable, __file__, "child"], "r", framing="lines") as started:
        async for line in started:
            print(line.decode(), flush=True)
        await started.wait()
    print(f"PARENT: the child's exit status is {started.returncode}")


async def child() -> None:
    print("CHILD: enter my exit status (0 to 255)", flush=True)
    async with aipc.open_channel("fd:0", framing="lines") as stdin:
        status = int(await stdin.receive())
    print("CHILD: goodbye", flush=True)
    sys.exit(status)


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "parent"], "r+", framing="lines") as both:
        await both.send(b"7")
        async for line in both:
            print(line.decode())


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"parent": parent, "child": child, "main": main}[which], *arguments)
