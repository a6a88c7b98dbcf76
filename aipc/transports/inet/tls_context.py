"""What a TLS peer must prove: an `ssl.SSLContext` from the options of a URL, or one from the caller."""

from __future__ import annotations

import ssl

import anyio.to_thread

from aipc._address import Address
from aipc._io.errors import os_error

_ONLY_FOR = {"client": ssl.PROTOCOL_TLS_CLIENT, "server": ssl.PROTOCOL_TLS_SERVER}


async def client_context(
    address: Address, given: ssl.SSLContext | None, cafile: str | None, certfile: str | None, keyfile: str | None
) -> ssl.SSLContext:
    """The client's context: `given`, or one that verifies the server's certificate and name. AddressError, ObjectMissing."""
    if given is not None:
        return _checked(address, given, "server", cafile, certfile, keyfile)
    return await _made(address, ssl.Purpose.SERVER_AUTH, cafile, certfile, keyfile)


async def server_context(
    address: Address, given: ssl.SSLContext | None, cafile: str | None, certfile: str | None, keyfile: str | None
) -> ssl.SSLContext:
    """The server's context: `given`, or one with that certificate. With a `cafile`, clients need certificates from it."""
    if given is not None:
        return _checked(address, given, "client", cafile, certfile, keyfile)
    if certfile is None:
        raise address.error("needs a certificate: certfile=... (and keyfile=..., if the key is not in it), or an ssl_context")
    return await _made(address, ssl.Purpose.CLIENT_AUTH, cafile, certfile, keyfile)


def _checked(address: Address, given: object, other: str, *files: str | None) -> ssl.SSLContext:
    if not isinstance(given, ssl.SSLContext):
        raise address.error(f"ssl_context must be an ssl.SSLContext, not {type(given).__name__}")
    if given.protocol is _ONLY_FOR[other]:
        raise address.error(f"that ssl_context is a {other}'s ({given.protocol.name})")
    if any(files):
        raise address.error("an ssl_context has its own certificates: load those of cafile, certfile and keyfile into it")
    return given


async def _made(
    address: Address, purpose: ssl.Purpose, cafile: str | None, certfile: str | None, keyfile: str | None
) -> ssl.SSLContext:
    if keyfile is not None and certfile is None:
        raise address.error("keyfile needs a certfile")
    try:
        # In a thread: reading the system's authorities takes tens of milliseconds.
        return await anyio.to_thread.run_sync(_make, purpose, cafile, certfile, keyfile)
    except ssl.SSLError as error:
        raise address.error(f"cafile, certfile or keyfile: {error.reason or error}") from error
    except OSError as error:
        files = ", ".join(name for name in (cafile, certfile, keyfile) if name is not None)
        raise os_error(error.errno or 0, address.url, f"{files}: {error.strerror}") from error


def _make(purpose: ssl.Purpose, cafile: str | None, certfile: str | None, keyfile: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=cafile)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile, _no_password)
    if purpose is ssl.Purpose.CLIENT_AUTH:
        context.num_tickets = 0  # sessions are never resumed, and unread tickets reset a closing client's connection
        if cafile is not None:
            context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted: decrypt it, or use an ssl_context")
