"""Beej, "Signals", sigint: Ctrl-C prints a line, and the program goes on waiting for its input.

`python sigint.py sigint` is the program; without an argument, a demonstration.
"""

import signal
import sys

import anyio

import aipc


async def sigint() -> None:
    async with (
        aipc.open_signal_receiver(signal.SIGINT) as interrupts,
        aipc.open_channel("fd:0", framing="lines") as stdin,
        anyio.create_task_group() as tasks,
    ):

        async def handle() -> None:
            async for _ in interrupts:
                print("Ahhh! SIGINT!", flush=True)

        tasks.start_soon(handle)
        print("Enter a string:", flush=True)
        print(f'You entered: "{(await stdin.receive()).decode()}"', flush=True)
        tasks.cancel_scope.cancel()


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "sigint"], "r+", framing="lines") as program:
        print((await program.receive()).decode())
        program.send_signal(signal.SIGINT)
        print((await program.receive()).decode())
        await program.send(b"still here")
        print((await program.receive()).decode())


if __name__ == "__main__":
    anyio.run({"sigint": sigint, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
