"""Calls that are right, and the types that they give."""

from __future__ import annotations

import ssl
from typing import Any, assert_type

import aipc
import aipc.abc
import aipc.testing
from aipc.transports.inet.tls_channel import TlsChannel


async def double(channel: aipc.Channel, number: int, times: int = 1) -> int:
    await channel.send(b"ready")
    return number * 2 * times


async def twice(text: str) -> str:
    return 2 * text


async def fill(channel: aipc.RingChannel, size: int) -> None:
    async with channel.loan(size) as view:
        view[:] = bytes(size)


async def options_are_known() -> None:
    async with aipc.open_channel("fifo:/run/x", create=True, mode=0o600, framing="lines", direction="send") as channel:
        assert_type(channel, aipc.Channel)
    assert_type(await aipc.open_channel("sysv-mq:private"), aipc.Channel)
    async with aipc.listen("tls://[::1]:0", backlog=8, ssl_context=ssl.create_default_context()) as listener:
        assert_type(listener, aipc.Listener[aipc.Channel])
        assert_type(await listener.accept(), aipc.Channel)
    async with aipc.open_lock("fcntl:/run/x", start=0, length=10, owner="process") as lock:
        assert_type(lock, aipc.Lock)
    chosen: aipc.ChannelOptions = {"framing": "u64", "nodelay": False}
    await aipc.open_channel("tcp://127.0.0.1:7000", **chosen)


async def what_a_mechanism_adds() -> None:
    async with aipc.open_sysv_queue(0x4D2, create=True, type=3) as queue:
        assert_type(queue.stat().qnum, int)
        queue.change(max_bytes=1024)
    async with aipc.open_ring("shm:/run/x", capacity=4096) as ring, ring.loan(10) as view, ring.receive_view() as received:
        assert_type(view, memoryview)
        assert_type(received, memoryview)
    async with aipc.open_stream("unix:/run/x", fds=True) as stream:
        assert_type(await stream.peek(), bytes)
    async with aipc.open_tls("tls://localhost:443", cafile="ca.pem") as secure:
        assert_type(secure, TlsChannel)
        await secure.handshake()
    async with aipc.open_semaphore("posix-sem:/x", value=2) as semaphore:
        await semaphore.acquire(2)
        assert_type(semaphore.value, int)
    async with aipc.open_byte_range_lock("fcntl:/run/x", shared=True) as lock, lock:
        await lock.upgrade()
    async with aipc.popen(["sort"], "r+") as child:
        assert_type(child.pid, int)


async def ring_handler(channel: aipc.RingChannel) -> None:
    async with channel.receive_view() as view:
        assert_type(len(view), int)


async def any_handler(channel: aipc.Channel) -> None:
    await channel.send(b"hello")


async def what_listeners_accept() -> None:
    async with aipc.listen_ring("shm:/run/x") as rings:
        assert_type(await rings.accept(), aipc.RingChannel)
        await rings.serve(ring_handler)
        await rings.serve(any_handler)
        async for channel in rings:
            assert_type(channel, aipc.RingChannel)
        listener: aipc.Listener = rings
        await listener.serve(any_handler)
    async with aipc.listen_stream("unix:/run/x", fds=True) as streams:
        assert_type(await (await streams.accept()).peek(), bytes)
    async with aipc.listen_tls("tls://127.0.0.1:0", certfile="cert.pem") as secure:
        await (await secure.accept()).handshake()


async def any_result(worker: aipc.Worker) -> None:
    assert_type(await worker.result(), Any)
    assert_type(worker.channel, aipc.Channel)


async def what_workers_return() -> None:
    async with aipc.spawn(double, 5) as worker:
        assert_type(await worker.result(), int)
        assert_type(await worker.channel.peek(), bytes)
    async with aipc.spawn(double, 5, 2, channel="seqpacket", loop="trio", grace=1.0) as worker:
        assert_type(worker.channel, aipc.Channel)
    async with aipc.spawn(fill, 10, channel="shm") as filler:
        assert_type(filler, aipc.Worker[None, aipc.RingChannel])
        await any_result(filler)
    async with aipc.spawn_pool(2, double, 5, restart="on-failure", channel="shm") as pool:
        assert_type(await pool.request(b"question"), bytes)
        assert_type(await pool.run(abs, -5), int)
        assert_type(await pool.run(twice, "5", on_cancel="kill"), str)
    async with aipc.spawn_pool(2, spares=1, max_waiting=10) as calls:
        assert_type(calls.statistics().latency, float)


async def supervised_programs() -> None:
    async with aipc.supervise([aipc.Program("web", ["python", "web.py"], restart="always", notify=True)]) as supervisor:
        assert_type(supervisor.status()["web"], aipc.ProgramStatus)
    assert_type(await aipc.supervise([aipc.Program("web", "true")], signals=()), int)


async def pairs_and_primitives() -> None:
    assert_type(aipc.channel_pair(), tuple[aipc.StreamChannel, aipc.StreamChannel])
    assert_type(aipc.channel_pair("dgram"), tuple[aipc.Channel, aipc.Channel])
    assert_type(aipc.channel_pair("shm"), tuple[aipc.RingChannel, aipc.RingChannel])
    async with aipc.Condition("/run/x", waiters=10) as condition:
        assert_type(condition, aipc.Condition)
    async with aipc.SysVSemaphoreSet("sysv-sem:0x4d2", create=True, count=3) as semaphores:
        assert_type(semaphores.values, list[int])
    assert_type(aipc.__version__, str)
    assert_type(aipc.abc.Credentials(1, 2, 3).uid, int)
