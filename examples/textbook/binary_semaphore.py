"""Advanced Linux Programming, listings 5.2 to 5.4: allocate, initialise and deallocate a binary semaphore; wait and post (P and V).

`python binary_semaphore.py allocate KEY`, `enter KEY` in several terminals, `deallocate KEY`; without an argument, two that enter.
`enter` waits, is inside until Return is pressed, and posts. If it is killed, the kernel posts (SEM_UNDO).
"""

import os
import sys

import anyio

import aipc


async def allocate(key: str) -> None:
    async with aipc.open_lock(f"sysv-sem:{key}", exclusive=True, value=1):
        print("allocated")


async def enter(key: str) -> None:
    async with aipc.open_lock(f"sysv-sem:{key}") as semaphore, aipc.open_channel("fd:0", framing="lines") as stdin:
        print("waiting", flush=True)
        async with semaphore:
            print("inside", flush=True)
            await stdin.receive()
            print("posting", flush=True)


async def deallocate(key: str) -> None:
    aipc.remove_object("sysv-sem", key)
    print("deallocated")


async def main() -> None:
    key = hex(0x53_000000 + os.getpid())
    await allocate(key)
    command = [sys.executable, __file__, "enter", key]
    async with aipc.popen(command, "r+", framing="lines") as first:
        for _ in ("waiting", "inside"):
            print("first: ", (await first.receive()).decode())
        async with aipc.popen(command, "r+", framing="lines") as second:
            print("second:", (await second.receive()).decode())
            first.kill()
            print("first:  killed")
            print("second:", (await second.receive()).decode())
            await second.send(b"")
            print("second:", (await second.receive()).decode())
    await deallocate(key)


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"allocate": allocate, "enter": enter, "deallocate": deallocate, "main": main}[which], *arguments)
