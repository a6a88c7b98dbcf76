"""Internet sockets at the other end, for the tests of `tcp:` and `tls:`."""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import trustme
from anyio.abc import SocketAttribute

import aipc
from aipc.abc import Listener

HOSTS = ["127.0.0.1", "[::1]"]
FAMILIES = {"127.0.0.1": socket.AF_INET, "[::1]": socket.AF_INET6}

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost", "127.0.0.1")


def port_of(listener: Listener) -> int:
    port: int = listener.extra(SocketAttribute.local_port)
    return port


def free_port(host: str) -> int:
    with socket.socket(FAMILIES[host]) as sock:
        sock.bind((host.strip("[]"), 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def listening(host: str = "127.0.0.1", **options: Any) -> AsyncIterator[tuple[Listener, str]]:
    """A listener at a free port, and its URL."""
    with anyio.fail_after(20):
        async with aipc.listen(f"tcp://{host}:0", **options) as listener:
            yield listener, f"tcp://{host}:{port_of(listener)}"


@asynccontextmanager
async def tls_listening(**options: Any) -> AsyncIterator[tuple[Listener, str]]:
    """As `listening`, with TLS and, if no other is given, `CERTIFICATE`."""
    if "certfile" not in options:
        options.setdefault("ssl_context", contexts()[0])
    with anyio.fail_after(20):
        async with aipc.listen("tls://127.0.0.1:0", **options) as listener:
            yield listener, f"tls://127.0.0.1:{port_of(listener)}"


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's, and a client's that trusts it."""
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    CERTIFICATE.configure_cert(server)
    AUTHORITY.configure_trust(client)
    return server, client


def certificate_files(directory: Path) -> dict[str, str]:
    """`certfile` and `cafile`, for a server whose clients need certificates, or for such a client."""
    certfile, cafile = directory / "server.pem", directory / "authority.pem"
    CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(str(certfile))
    AUTHORITY.cert_pem.write_to_path(str(cafile))
    return {"certfile": str(certfile), "cafile": str(cafile)}


@contextmanager
def plain_client(listener: Listener) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port_of(listener)), 10) as plain:
        yield plain


async def in_thread(function: Any, *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(functools.partial(function, *arguments))


class TlsByHand:
    """A TLS client over a plain socket that does one step at a time, and no other."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = contexts()[1].wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def handshake_step(self) -> bool:
        """Whether the handshake is made, as far as this side is concerned; its next words are in `outgoing`."""
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def say(self) -> None:
        """Send what is in `outgoing`."""
        self.plain.sendall(self.outgoing.read())

    async def hear(self) -> None:
        """Wait for the peer's next bytes."""
        self.incoming.write(await in_thread(self.plain.recv, 65536))

    async def handshake_but_last(self) -> None:
        """All of the handshake but sending this side's last words."""
        while not self.handshake_step():
            self.say()
            await self.hear()

    async def handshake(self) -> None:
        """All of it."""
        await self.handshake_but_last()
        self.say()
