"""How to test them, with pytest-asyncio in strict mode: real connections, no mocks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prices import Prices
from shop import make_app

import aipc
from aipc import rpc


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[str, Prices]]:
    url, prices = f"unix:{tmp_path}/prices.sock", Prices()
    async with aipc.listen(url) as listener:
        server = asyncio.create_task(rpc.serve(listener, prices.router))
        yield url, prices
        server.cancel()
        with suppress(asyncio.CancelledError):
            await server


async def until(true: object) -> None:
    async with asyncio.timeout(10):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_prices(service: tuple[str, Prices]) -> None:
    async with rpc.connect(service[0]) as client:
        assert await client.call("price", "apple", returns=float) == 0.5
        with pytest.raises(rpc.RemoteError, match="no price for pear"):
            await client.call("price", "pear")


@pytest.mark.asyncio
async def test_a_cancelled_call_is_cancelled_at_the_service(service: tuple[str, Prices]) -> None:
    url, prices = service
    async with rpc.connect(url) as client:
        call = asyncio.create_task(client.call("look_up", "pear"))
        await until(lambda: prices.looking_up)
        call.cancel()
        await until(lambda: prices.given_up == ["pear"])


@pytest.mark.asyncio
async def test_the_web_application(service: tuple[str, Prices]) -> None:
    url, prices = service
    app = make_app(url, patience=0.05)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as web:
        assert (await web.get("/price/apple")).json() == {"price": 0.5}
        assert (await web.get("/price/pear")).status_code == 404
        slow = await asyncio.gather(*(web.get(f"/price/{name}?slow=1") for name in "abc"))
        assert [answer.status_code for answer in slow] == [504] * 3
        await until(lambda: sorted(prices.given_up) == ["a", "b", "c"])


@pytest.mark.asyncio
async def test_invoices(service: tuple[str, Prices]) -> None:
    """One that takes too long is given up, for real: the next one has a worker at once."""
    app = make_app(service[0], patience=1.0, max_waiting=0)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as web:
        workers: aipc.Pool = app.state.workers
        assert (await web.get("/invoice/100")).json() == {"digits": 48}
        slow = asyncio.create_task(web.get("/invoice/1000000000"))
        await until(lambda: workers.statistics().busy)
        assert (await web.get("/invoice/100")).status_code == 503
        assert (await slow).status_code == 504
        await until(lambda: workers.workers)
        assert workers.restarts == 1
        await workers.wait_ready()
        assert (await web.get("/invoice/100")).status_code == 200
