"""Every opener in a process that has 0, 1, 2 … descriptors left, until it succeeds. For a child process: `main(LOOP, DIRECTORY)`.

Prints a line of JSON for each try that failed: what was tried, how many descriptors were left, the error, what stayed behind.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketAttribute

import aipc
from aipc._sys import processes
from aipc.testing import kernel_objects
from aipc.testing.leaks import descriptors

from ..conftest import LOOPS
from ..subjects.channels import certified
from ..subjects.names import new_key, new_name

_MOST = 200
_KINDS = ("stream", "seqpacket", "dgram", "shm")
Opener = Callable[[], Any]


async def worker(channel: aipc.Channel) -> None:
    """What a spawned child runs."""


def tls_server() -> int:
    """The port of a server that makes handshakes, in a process of its own: in this one it would have no descriptors, either."""
    server, _ = certified()
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return int(os.read(reading, 100))

    async def serve() -> None:
        async with aipc.listen("tls://127.0.0.1:0", ssl_context=server) as listener:
            os.write(writing, str(listener.extra(SocketAttribute.local_port)).encode())
            await listener.serve(lambda channel: channel.handshake())

    processes.die_with(os.getppid())
    anyio.run(serve)
    os._exit(0)


async def openers(directory: Path, tls: int, stack: AsyncExitStack) -> dict[str, Opener]:
    """How to open each kind of thing, by what its error must say. The peers that they need stay open with `stack`."""

    async def peer(opening: Any) -> Any:
        return await stack.enter_async_context(opening)

    here = str(directory)
    server, client = certified()
    tcp = await peer(aipc.listen("tcp://127.0.0.1:0"))
    for scheme in ("unix", "unix+seqpacket", "shm"):
        await peer(aipc.listen(f"{scheme}:{here}/{scheme}"))
    await peer(aipc.open_channel(f"unix+dgram:?bind={here}/datagrams"))
    os.mkfifo(directory / "fifo")
    await peer(aipc.open_channel(f"fifo:{here}/fifo"))
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    for sock in sockets:
        stack.callback(sock.close)
    inherited = (sock.detach() for sock in sockets)
    channels: dict[str, dict[str, Any]] = {
        **{f"{scheme}:{here}/{scheme}": {} for scheme in ("unix", "unix+seqpacket", "shm")},
        f"unix+dgram:{here}/datagrams": {},
        f"unix+dgram:?bind={here}/own": {},
        f"fifo:{here}/fifo?direction=send&wait=0": {},
        f"fifo:{here}/fifo?direction=receive": {},
        f"fifo:{here}/new?exclusive=1&unlink=1": {},
        f"tcp://127.0.0.1:{tcp.extra(SocketAttribute.local_port)}": {},
        f"tls://127.0.0.1:{tls}": {"ssl_context": client},
        "udp:?bind=127.0.0.1:0": {},
        f"sysv-mq:{new_key()}?exclusive=1&unlink=1": {},
        f"posix-mq:{new_name()}?exclusive=1&unlink=1": {},
        f"signal:SIGRTMIN+9?pid={os.getpid()}": {},
        "signal:SIGRTMIN+9": {},
        "exec:true": {},
    }
    listeners: dict[str, dict[str, Any]] = {
        **{f"{scheme}:{here}/new": {} for scheme in ("unix", "unix+seqpacket", "shm")},
        "tcp://127.0.0.1:0": {},
        "tls://127.0.0.1:0": {"ssl_context": server},
    }
    locks = (
        f"flock:{here}/lock?unlink=1",
        f"flock:{here}/lock?exclusive=1&unlink=1",
        f"sysv-sem:{new_key()}?exclusive=1&unlink=1",
        f"posix-sem:{new_name()}?exclusive=1&unlink=1",
        f"posix-sem:{new_name()}?exclusive=1&unlink=1&robust=1",
    )
    return {
        **{url: lambda url=url, options=options: aipc.open_channel(url, **options) for url, options in channels.items()},
        **{url: lambda url=url, options=options: aipc.listen(url, **options) for url, options in listeners.items()},
        **{url: lambda url=url: aipc.open_lock(url) for url in locks},
        **{f"channel_pair({kind!r})": lambda kind=kind: aipc.channel_pair(kind) for kind in _KINDS},
        "fd:": lambda: aipc.open_channel(f"fd:{next(inherited)}"),
        "pipe": aipc.pipe,
        "popen (true)": lambda: aipc.popen("true", "r+"),
        "pipeline": lambda: aipc.pipeline(["true"], ["true"]),
        f"worker ({__name__}.worker)": lambda: aipc.spawn(worker),
        "sysv-sem:private": lambda: aipc.Event("private"),
    }


@contextmanager
def left(free: int) -> Iterator[None]:
    """This process has `free` descriptors left."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST, before[1]))
    fillers: list[int] = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(free):
            os.close(fillers.pop())
        yield
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def opened(opener: Opener) -> tuple[Any, ...]:
    result = opener()
    result = await result if hasattr(result, "__await__") else result
    return result if isinstance(result, tuple) else (result,)


def there(directory: Path) -> frozenset[str]:
    gc.collect()
    return kernel_objects() | descriptors() | frozenset(os.listdir(directory))


async def attempt(name: str, opener: Opener, free: int, directory: Path) -> bool:
    """Whether it could be opened."""
    before = there(directory)
    error: BaseException | None = None
    results: tuple[Any, ...] = ()
    with left(free):
        try:
            results = await opened(opener)
        except Exception as caught:
            error = caught.with_traceback(None)
    for result in results:
        await result.aclose()
    stays = sorted(there(directory) - before)
    if error is not None or stays:
        number = getattr(error, "errno", None)
        print(json.dumps([name, free, type(error).__name__, number, str(error), stays]), flush=True)
    return error is None


async def _run(directory: Path, tls: int) -> None:
    async with AsyncExitStack() as stack:
        for name, opener in (await openers(directory, tls, stack)).items():
            for result in await opened(opener):  # whatever is imported or kept from now on, is so by then
                await result.aclose()
            gc.collect()
            gc.freeze()
            free = 0
            while not await attempt(name, opener, free, directory):
                free += 1
    print(json.dumps(None), flush=True)


def main(loop: str, directory: str) -> None:
    backend, options = LOOPS[loop]
    anyio.run(_run, Path(directory), tls_server(), backend=backend, backend_options=options)
