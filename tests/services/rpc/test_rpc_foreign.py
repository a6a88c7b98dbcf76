"""Other implementations call aipc's services, and aipc calls theirs: aiorpcx for JSON-RPC, aio-msgpack-rpc for MessagePack-RPC."""

from __future__ import annotations

import subprocess
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import aipc
from aipc import rpc

from ...peers import python, said
from .calling import Service, listening

pytestmark = pytest.mark.anyio

JSON_CLIENT = """
import asyncio, sys
import aiorpcx
from aiorpcx import unixsocket

async def main():
    async with unixsocket.connect_us(sys.argv[1]) as session:
        print(await session.send_request("add", [1, 2]), flush=True)
        print(await session.send_request("add", {"a": 1, "b": 3}), flush=True)
        for method, args in [("nothing", []), ("add", ["x"]), ("fail", [])]:
            try:
                await session.send_request(method, args)
            except aiorpcx.RPCError as error:
                print(error.code, flush=True)
        await session.send_notification("log", ["text"])
        async with session.send_batch() as batch:
            batch.add_request("add", [1, 1])
            batch.add_notification("log", ["more"])
            batch.add_request("add", [2, 2])
        print(batch.results, flush=True)
        print(sorted(await asyncio.gather(*(session.send_request("echo", [n]) for n in range(50)))) == list(range(50)), flush=True)

asyncio.run(main())
"""

JSON_SERVER = """
import asyncio, sys
import aiorpcx
from aiorpcx import unixsocket

notified = []

class Session(aiorpcx.RPCSession):
    async def handle_request(self, request):
        if isinstance(request, aiorpcx.Notification):
            notified.append(request.args)
            return
        if request.method == "add":
            return request.args[0] + request.args[1] if isinstance(request.args, list) else sum(request.args.values())
        if request.method == "wait":
            await asyncio.sleep(1000)
        if request.method == "list":
            return [1, 2, 3]
        if request.method == "notified":
            return [args for args in notified if args == ["text"]]
        raise aiorpcx.RPCError(7, "no")

async def main():
    await unixsocket.serve_us(Session, sys.argv[1])
    print("up", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""

MESSAGEPACK_CLIENT = """
import asyncio, sys
import aio_msgpack_rpc

async def main():
    client = aio_msgpack_rpc.Client(*await asyncio.open_unix_connection(sys.argv[1]))
    print(await client.call("add", 1, 2), flush=True)
    print(await client.call("add", 1), flush=True)
    for method, args in [("nothing", []), ("add", ["x"]), ("fail", [])]:
        try:
            await client.call(method, *args)
        except aio_msgpack_rpc.error.RPCResponseError as error:
            print(error.args[0]["code"], flush=True)
    await client.notify("log", "text")
    print(sorted(await asyncio.gather(*(client.call("echo", n) for n in range(50)))) == list(range(50)), flush=True)
    print(len(await client.call("echo", b"x" * 300_000)), flush=True)
    print(await client.call("count", 3), flush=True)
    client.close()

asyncio.run(main())
"""

MESSAGEPACK_SERVER = """
import asyncio, sys
import aio_msgpack_rpc

class Handler:
    def __init__(self):
        self.notified = []
    def add(self, a, b):
        return a + b
    async def wait(self):
        await asyncio.sleep(1000)
    def list(self):
        return [1, 2, 3]
    def log(self, text):
        self.notified.append([text])
    def notified_with(self):
        return self.notified
    def refuse(self):
        raise ValueError("no")

async def main():
    await asyncio.start_unix_server(aio_msgpack_rpc.Server(Handler()), sys.argv[1])
    print("up", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def line(process: subprocess.Popen[str]) -> str:
    return await anyio.to_thread.run_sync(said, process)


async def test_a_json_rpc_client_calls_us(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    async with listening(service, f"unix:{place}/socket?framing=lines", "json"):
        with python(JSON_CLIENT, f"{place}/socket") as client:
            expected = ["3", "4", "-32601", "-32602", "-32603", "(2, 4)", "True", ""]
            assert [await line(client) for _ in expected] == expected
    assert sorted(service.logged) == ["more", "text"]  # each runs in a task of its own


async def test_a_messagepack_rpc_client_calls_us(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    async with listening(service, f"unix:{place}/socket?framing=none"):
        with python(MESSAGEPACK_CLIENT, f"{place}/socket") as client:
            expected = ["3", "11", "-32601", "-32602", "-32603", "True", "300000", "[0, 1, 2]", ""]
            assert [await line(client) for _ in expected] == expected
    assert service.logged == ["text"]


async def test_we_call_a_json_rpc_server(place: Path) -> None:
    with anyio.fail_after(30), python(JSON_SERVER, f"{place}/socket") as server:
        assert await line(server) == "up"
        async with rpc.connect(f"unix:{place}/socket?framing=lines", "json") as client:
            assert await client.call("add", 1, 2, returns=int) == 3
            assert await client.call("add", a=1, b=5) == 6
            await client.notify("log", "text")
            with pytest.raises(rpc.RemoteError, match=r"no \(code 7\)"):
                await client.call("refuse")
            with anyio.move_on_after(0.05) as scope:
                await client.call("wait")
            assert scope.cancelled_caught
            async with client.stream("list") as items:
                assert [item async for item in items] == [1, 2, 3]
            assert await client.call("notified") == [["text"]]


async def test_we_call_a_messagepack_rpc_server(place: Path) -> None:
    with anyio.fail_after(30), python(MESSAGEPACK_SERVER, f"{place}/socket") as server:
        assert await line(server) == "up"
        async with rpc.connect(f"unix:{place}/socket?framing=none") as client:
            assert await client.call("add", 1, 2, returns=int) == 3
            await client.notify("log", "text")
            with pytest.raises(rpc.RemoteError, match="no"):
                await client.call("refuse")
            with anyio.move_on_after(0.05) as scope:
                await client.call("wait")
            assert scope.cancelled_caught
            async with client.stream("list") as items:
                assert [item async for item in items] == [1, 2, 3]
            assert await client.call("notified_with") == [["text"]]
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(check_sum, client, number)


async def check_sum(client: rpc.Client, number: int) -> None:
    assert await client.call("add", number, number) == 2 * number


async def test_a_client_by_hand_half_a_message_at_a_time(place: Path) -> None:
    """Objects cut anywhere, as a stream socket may deliver them."""
    service = Service()
    request = b"\x94\x00\x05\xa3add\x92\x01\x02"
    url = f"unix:{place}/socket?framing=none"
    async with listening(service, url), aipc.open_channel(url) as channel:
        for _ in range(3):
            for byte in request:
                await channel.send(bytes([byte]))
            assert await channel.receive() == b"\x94\x01\x05\xc0\x03"
        await channel.send(request * 3)
        received = b""
        while len(received) < 15:
            received += await channel.receive()
        assert received == b"\x94\x01\x05\xc0\x03" * 3
