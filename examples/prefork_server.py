"""A prefork server: four processes accept from one listening socket, and are replaced without refusing a client.

`python examples/prefork_server.py` is a demonstration: clients never stop asking while the workers are replaced.
`python examples/prefork_server.py unix:/tmp/web.sock` serves until SIGTERM; SIGHUP replaces the workers, and a worker that dies is
replaced at once. Ask it with `curl --unix-socket /tmp/web.sock http://localhost/hello`.

On uvloop: `uvloop.run(main(url))`. On trio: `trio.run(main, url)`; here asyncio is only needed for the demonstration.
"""

import asyncio
import os
import signal
import sys
import tempfile

import anyio

import aipc

WORKERS = 4


async def answer(connection: aipc.Channel) -> None:
    """One request, one answer."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += await connection.receive()
    body = b"%d says: you asked for %s\n" % (os.getpid(), request.split()[1])
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


async def work(parent: aipc.Channel) -> None:
    """A worker: serve until the parent ends the stream, and then answer the clients that are connected."""
    (fd,) = (await parent.receive_message()).fds
    async with aipc.listen(f"fd:{fd}", framing="none") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        await parent.send(b"ready")
        async for _ in parent:
            pass
        await listener.drain()


async def main(url: str) -> None:
    async with aipc.listen(url) as listener:

        async def hand_over(worker: aipc.Worker) -> None:
            await worker.channel.send(b"listen here", fds=[listener.extra(aipc.ChannelAttribute.descriptor)])
            await worker.channel.receive()

        async with (
            aipc.spawn_pool(WORKERS, work, welcome=hand_over) as pool,
            aipc.service(reload=pool.renew) as service,
        ):
            await pool.wait_ready()
            service.ready()
            print(f"{os.getpid()}: {WORKERS} workers listen on {url}", flush=True)
            await service.stopping()
            await listener.aclose()


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url, path = f"unix:{directory}/web.sock", f"{directory}/web.sock"
        pipe = asyncio.subprocess.PIPE
        server = await asyncio.create_subprocess_exec(sys.executable, __file__, url, stdout=pipe)
        assert server.stdout is not None
        print((await server.stdout.readline()).decode(), end="")
        answered: list[bytes] = []

        async def ask() -> None:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /hello HTTP/1.1\r\n\r\n")
            answered.append((await reader.read()).rpartition(b"\r\n")[2].split()[0])
            writer.close()

        async def ask_until_all_are_new() -> None:
            before = set(answered)
            while len(set(answered) - before) < WORKERS:
                await asyncio.gather(*(ask() for _ in range(8)))

        await ask_until_all_are_new()
        aipc.send_signal(server.pid, signal.SIGHUP)
        await ask_until_all_are_new()
        print(f"{len(set(answered))} workers answered, and nobody was refused")
        server.terminate()
        assert await server.wait() == 0


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]) if len(sys.argv) > 1 else demonstrate())
