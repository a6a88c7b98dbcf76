"""A service that reads its configuration again on SIGHUP, stops on SIGTERM, and tells systemd about both.

`python examples/reload_on_sighup.py` is a demonstration: a second process is the service.
`python examples/reload_on_sighup.py /etc/motd` runs until SIGTERM: try `kill -HUP` and `kill` with the pid that it prints.

SIGHUPs that come during a reload are one more reload afterwards, however many they were: standard signals are flags.
"""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

import aipc
from aipc import systemd


async def serve(configuration: Path) -> None:
    async with aipc.open_signal_receiver(signal.SIGHUP, signal.SIGTERM) as received:
        print(f"{os.getpid()}: started with {configuration.read_text().strip()!r}", flush=True)
        systemd.ready()
        async for info in received:
            if info.signum == signal.SIGTERM:
                break
            systemd.reloading()
            print(f"read again: {configuration.read_text().strip()!r}", flush=True)
            systemd.ready()
        systemd.stopping()
        print("stopping", flush=True)


async def demonstrate() -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        configuration = Path(file.name)
        configuration.write_text("colour = red")
        pipe = asyncio.subprocess.PIPE
        service = await asyncio.create_subprocess_exec(sys.executable, __file__, file.name, stdout=pipe)
        assert service.stdout is not None
        print((await service.stdout.readline()).decode(), end="")
        configuration.write_text("colour = green")
        for signum in (signal.SIGHUP, signal.SIGTERM):
            aipc.send_signal(service.pid, signum)
            print((await service.stdout.readline()).decode(), end="")
        assert await service.wait() == 0


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])) if len(sys.argv) > 1 else demonstrate())
