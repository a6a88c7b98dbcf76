"""A web application (Starlette) in front of a service and a pool of workers: each request has a deadline, which both know of.

`python examples/services/shop.py` is a demonstration, without a web server. To serve it for real:
`PRICES=unix:/run/prices.sock uvicorn --factory shop:make_app`, in this directory.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator

import anyio
import httpx
from invoices import digits
from prices import Prices
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import aipc
from aipc import rpc


async def price(request: Request) -> JSONResponse:
    client: rpc.Client = request.app.state.prices
    method = "look_up" if "slow" in request.query_params else "price"
    try:
        with anyio.fail_after(request.app.state.patience):
            return JSONResponse({"price": await client.call(method, request.path_params["name"], returns=float)})
    except TimeoutError:
        return JSONResponse({"error": "the prices take too long"}, 504)
    except rpc.RemoteError as error:
        return JSONResponse({"error": error.message}, error.code if error.code == 404 else 502)
    except rpc.ConnectionLost:
        return JSONResponse({"error": "no prices now"}, 503)


async def invoice(request: Request) -> JSONResponse:
    """Compute in another process; a worker that takes too long is killed, and a spare one takes its place."""
    workers: aipc.Pool = request.app.state.workers
    try:
        with anyio.fail_after(request.app.state.patience):
            return JSONResponse({"digits": await workers.run(digits, request.path_params["size"], on_cancel="kill")})
    except TimeoutError:
        return JSONResponse({"error": "the invoice takes too long"}, 504)
    except aipc.PoolBusy:
        return JSONResponse({"error": "too many invoices"}, 503, {"Retry-After": "1"})


def make_app(url: str | None = None, patience: float = 1.0, max_waiting: int = 100) -> Starlette:
    """One connection, and one pool, for all requests: calls do not wait for each other."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with (
            rpc.connect(url or os.environ["PRICES"], wait=True) as client,
            aipc.spawn_pool(1, spares=1, max_waiting=max_waiting) as workers,
        ):
            await workers.wait_ready()
            app.state.prices, app.state.workers, app.state.patience = client, workers, patience
            yield

    routes = [Route("/price/{name}", price), Route("/invoice/{size:int}", invoice)]
    return Starlette(routes=routes, lifespan=lifespan)


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"unix:{directory}/prices.sock"
        async with aipc.listen(url) as listener, asyncio.TaskGroup() as tasks:
            server = tasks.create_task(rpc.serve(listener, Prices().router))
            app = make_app(url, patience=0.2)
            transport = httpx.ASGITransport(app)
            async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as web:
                for path in ("/price/apple", "/price/pear", "/price/pear?slow=1", "/invoice/100", "/invoice/1000000000"):
                    answer = await web.get(path)
                    print(path, answer.status_code, answer.json())
            server.cancel()


if __name__ == "__main__":
    asyncio.run(demonstrate())
