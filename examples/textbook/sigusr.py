"""Beej, "Signals", sigusr: a program works until another one sends it SIGUSR1.

`python sigusr.py worker` prints its number; `python sigusr.py sender NUMBER` sends the signal. Without an argument, both.
"""

import os
import signal
import sys

import anyio

import aipc


async def worker() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received, anyio.create_task_group() as tasks:

        async def work() -> None:
            while True:
                await anyio.sleep(1)
                print("working hard", flush=True)

        print(f"process {os.getpid()} is working", flush=True)
        tasks.start_soon(work)
        await anext(received)
        tasks.cancel_scope.cancel()
    print("Done in by SIGUSR1!")


async def sender(pid: str) -> None:
    aipc.send_signal(int(pid), signal.SIGUSR1)


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "worker"], framing="lines") as program:
        await sender((await program.receive()).split()[1].decode())
        print((await program.receive()).decode())


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"worker": worker, "sender": sender, "main": main}[which], *arguments)
