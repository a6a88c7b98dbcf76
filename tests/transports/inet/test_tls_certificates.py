"""Whom TLS trusts, what it refuses, and the options that say so."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

import aipc
from aipc.abc import Listener

from ...internet import certificate_files, contexts, plain_client, port_of
from ...internet import tls_listening as listening
from ...subjects import CHANNELS

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return certificate_files(tmp_path)


class TestCertificates:
    async def refused(self, url: str, listener: Listener, **options: Any) -> aipc.CertificateRefused:
        async def serve() -> None:
            async with await listener.accept() as channel:
                with pytest.raises(aipc.ProtocolError, match="TLS"):
                    await channel.receive()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            with pytest.raises(aipc.CertificateRefused) as caught:
                await aipc.open_channel(url, **options)
        assert isinstance(caught.value, ssl.SSLCertVerificationError)
        assert caught.value.verify_message in str(caught.value)
        assert url in str(caught.value)
        return caught.value

    async def test_unknown_authority(self) -> None:
        async with listening() as (listener, url):
            error = await self.refused(url, listener)
            assert "unable to get local issuer" in error.verify_message

    async def test_other_name(self, files: dict[str, str]) -> None:
        async with listening() as (listener, url):
            error = await self.refused(url, listener, cafile=files["cafile"], server_hostname="elsewhere.example")
            assert "elsewhere.example" in error.verify_message

    async def test_by_files(self, files: dict[str, str]) -> None:
        """With a `cafile`, a server wants certificates of its clients, and knows them by these."""
        async with listening(**files) as (listener, url), anyio.create_task_group() as tasks:

            async def serve() -> None:
                async with await listener.accept() as channel:
                    with pytest.raises(ValueError, match="handshake"):
                        channel.extra(TLSAttribute.peer_certificate)
                    await channel.handshake()
                    names = channel.extra(TLSAttribute.peer_certificate)["subjectAltName"]
                    assert ("DNS", "localhost") in names
                    await channel.send(b"known")

            tasks.start_soon(serve)
            async with aipc.open_channel(url, **files) as channel:
                assert await channel.receive() == b"known"

    async def test_client_without(self, files: dict[str, str]) -> None:
        """In TLS 1.3 it learns of it with its first receive."""
        async with listening(**files) as (listener, url), anyio.create_task_group() as tasks:

            async def serve() -> None:
                async with await listener.accept() as channel:
                    with pytest.raises(aipc.ProtocolError, match=r"(?i)peer.did.not.return.a.certificate"):
                        await channel.receive()

            tasks.start_soon(serve)
            async with aipc.open_channel(url, cafile=files["cafile"]) as channel:
                with pytest.raises(aipc.ProtocolError, match=r"(?i)certificate.required"):
                    await channel.receive()


class TestNotTls:
    async def test_plain_client(self) -> None:
        async with listening() as (listener, _):
            with plain_client(listener) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                async with await listener.accept() as channel:
                    for _ in range(2):
                        with pytest.raises(aipc.ProtocolError, match="TLS"):
                            await channel.receive()
                    with pytest.raises(aipc.ProtocolError, match="TLS"):
                        await channel.send(b"x")

    async def test_plain_server(self) -> None:
        with anyio.fail_after(20):
            async with aipc.listen("tcp://127.0.0.1:0", framing="none") as listener, anyio.create_task_group() as tasks:

                async def serve() -> None:
                    async with await listener.accept() as channel:
                        await channel.send(b"220 welcome\r\n")
                        await channel.receive()

                tasks.start_soon(serve)
                with pytest.raises(aipc.ProtocolError, match="TLS"):
                    await aipc.open_channel(f"tls://127.0.0.1:{port_of(listener)}", ssl_context=contexts()[1])

    async def test_gone_during_the_handshake(self) -> None:
        async with listening() as (listener, _):
            with plain_client(listener):
                pass
            async with await listener.accept() as channel:
                with pytest.raises(aipc.ProtocolError, match="during the TLS handshake"):
                    await channel.receive()


async def test_attributes(place: Path) -> None:
    async with CHANNELS["tls"](place).open_pair() as (ours, theirs):
        assert ours.extra(TLSAttribute.tls_version) == theirs.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert not ours.extra(TLSAttribute.server_side)
        assert theirs.extra(TLSAttribute.server_side)
        assert ("DNS", "localhost") in ours.extra(TLSAttribute.peer_certificate)["subjectAltName"]
        assert ours.extra(TLSAttribute.peer_certificate_binary)
        assert ours.extra(TLSAttribute.cipher)
        assert ours.extra(TLSAttribute.alpn_protocol) is None
        assert ours.extra(TLSAttribute.standard_compatible)
        assert isinstance(ours.extra(TLSAttribute.ssl_object), ssl.SSLObject)
        assert ours.extra(SocketAttribute.remote_port) == theirs.extra(SocketAttribute.local_port)


class TestOptions:
    async def test_server_without_a_certificate(self) -> None:
        with pytest.raises(aipc.AddressError, match="needs a certificate"):
            await aipc.listen("tls://127.0.0.1:0")

    async def test_context_and_files(self, files: dict[str, str]) -> None:
        server, client = contexts()
        with pytest.raises(aipc.AddressError, match="ssl_context"):
            await aipc.listen("tls://127.0.0.1:0", ssl_context=server, certfile=files["certfile"])
        with pytest.raises(aipc.AddressError, match="ssl_context"):
            await aipc.open_channel("tls://127.0.0.1:1", ssl_context=client, cafile=files["cafile"])

    async def test_context_of_the_other_side(self) -> None:
        server, client = contexts()
        with pytest.raises(aipc.AddressError, match="ssl_context is a client's"):
            await aipc.listen("tls://127.0.0.1:0", ssl_context=client)
        with pytest.raises(aipc.AddressError, match="ssl_context is a server's"):
            await aipc.open_channel("tls://127.0.0.1:1", ssl_context=server)

    @pytest.mark.parametrize("given", [{"ssl_context": "default"}, {"ssl_context": 1}, {"keyfile": "/nowhere"}])
    async def test_bad_value(self, given: dict[str, Any]) -> None:
        with pytest.raises(aipc.AddressError, match="|".join(given)):
            await aipc.open_channel("tls://127.0.0.1:1", **given)

    async def test_missing_file(self) -> None:
        with pytest.raises(aipc.ObjectMissing, match="/nowhere"):
            await aipc.open_channel("tls://127.0.0.1:1", cafile="/nowhere")
        with pytest.raises(aipc.ObjectMissing, match="/nowhere"):
            await aipc.listen("tls://127.0.0.1:0", certfile="/nowhere")

    async def test_file_without_a_certificate(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.write_text("nothing\n")
        with pytest.raises(aipc.AddressError, match="cafile, certfile or keyfile"):
            await aipc.listen("tls://127.0.0.1:0", certfile=str(empty))
