"""TLS over TCP, by the standard library's `ssl` module (OpenSSL), which here does no I/O of its own.

Not anyio's TLSStream: that takes a record out of OpenSSL and then awaits its sending, so that a cancelled `send` loses it, and
with it the connection; and it has nothing that does not wait. Here, too, each try is one non-blocking step:

- Reading decrypts all that is there before it asks the socket again, so that nobody waits while OpenSSL has data.
- Writing encrypts only when the socket has room, and counts plaintext as sent when the kernel has its records. Records can't be
  taken back, so plaintext that OpenSSL has taken is under way, whatever the socket says: what the kernel did not take of its
  records goes ahead of all else.
- The handshake is a step of reading. What OpenSSL has to say meanwhile (its part of the handshake, tickets, new keys) is sent at
  once, or in the background when there is room.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from anyio.streams.tls import TLSAttribute

from aipc._address import Address
from aipc._io.handle import SocketHandle
from aipc._io.loop import backend
from aipc.abc import Buffer
from aipc.exceptions import CertificateRefused, ProtocolError
from aipc.wire.framing import MAX_MESSAGE_SIZE, Frame, Framing
from aipc.wire.framing import framing as framing_named

from ..byte_stream import GONE, READ_SIZE
from .address import check_endpoint as check  # noqa: F401 - which `_open` calls
from .address import endpoint, set_options
from .stream import InetListener, InetStreamChannel, bind, dial
from .tls_context import client_context, server_context

_RECORD = 16 * 1024
_CHUNK = 64 * 1024
"""Plaintext bytes encrypted at a time: more would only lie here, encrypted, until the kernel has room."""
_MOST_UNREAD = 1024 * 1024
_MOST_UNSAID = 256 * 1024
"""Bytes of OpenSSL's own that may wait for room: a peer that asks for new keys again and again and reads nothing makes more of them."""
_PASSING = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Errors of send(2) after which it may take the same records yet."""


class TlsChannel(InetStreamChannel):
    """Messages over TLS. An accepted channel makes its handshake with its first operation, or with `handshake`."""

    __slots__ = (
        "_cipher_in", "_cipher_out", "_early", "_encrypted", "_input_end", "_output_error", "_pending", "_ragged_end", "_room",
        "_shaken", "_ssl", "_talking",
    )  # fmt: skip

    def __init__(self, handle: SocketHandle, framing: Framing, wrap: Callable[..., ssl.SSLObject], *, ragged_end: bool) -> None:
        super().__init__(handle, framing)
        self._cipher_in, self._cipher_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = wrap(self._cipher_in, self._cipher_out)
        self._ragged_end = ragged_end
        self._shaken = False
        self._early = b""  # decrypted, and not yet asked for
        self._input_end: Exception | bool = False  # True after the peer's close_notify
        self._pending = memoryview(b"")  # ciphertext that the kernel did not take yet
        self._encrypted = 0  # bytes at the front of `_unfinished` that stand in `_pending`
        self._output_error: Exception | None = None  # nothing can be sent any more
        self._talking: object = None  # the loop on which a task of its own sends `_pending`
        self._room: select.poll | None = None

    async def handshake(self) -> None:
        """Make the handshake now, to learn who the peer is before any message; else the first operation does it.

        CertificateRefused, ProtocolError. Cancelled: it goes on with the next operation.
        """
        await self._handle.readable.attempt(self._shake)

    def _shake(self) -> None:
        self._handle.check()
        while not self._shaken:
            self._raise_input_error()
            try:
                self._ssl.do_handshake()
                self._shaken = True
                self._handle.readable.wake_all()  # senders wait there, too, and there may be nothing more to read
            except ssl.SSLWantReadError:
                self._say()
                self._refill()
            except ssl.SSLError as error:
                self._end_input(self._explained(error))
            self._say()

    def _end_input(self, end: Exception | Literal[True]) -> None:
        """Nothing more can be decrypted, for every task that waits: True if the peer said so."""
        self._input_end = end
        self._handle.readable.wake_all()

    def _refill(self) -> None:
        """One recv(2)."""
        try:
            cipher = os.read(self._handle.fd, READ_SIZE)
        except BlockingIOError:
            raise
        except OSError as error:
            self._end_input(error)  # the kernel tells it once, and then the end of the stream
            raise
        if cipher:
            self._cipher_in.write(cipher)
        else:
            self._cipher_in.write_eof()

    def _decrypted(self) -> bytes:
        """All that can be decrypted by now."""
        pieces = []
        while not self._input_end:
            try:
                piece = self._ssl.read(_RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError as error:
                ragged_end = self._ragged_end and isinstance(error, ssl.SSLEOFError)
                self._end_input(True if ragged_end else self._explained(error))
                break
            if piece:
                pieces.append(piece)
            else:
                self._end_input(True)
        return b"".join(pieces)

    def _raise_input_error(self) -> None:
        if isinstance(self._input_end, Exception):
            raise self._input_end.with_traceback(None)

    def _read(self) -> bytes:
        self._shake()
        data, self._early = self._early, b""
        while not data:
            data = self._decrypted()
            self._say()
            if not data:
                self._raise_input_error()
                if self._input_end:
                    break
                self._refill()
        return data

    def _read_into(self, space: memoryview) -> int:
        data = self._read()
        size = min(len(data), len(space))
        space[:size] = data[:size]
        self._early = data[size:]
        return size

    def _push(self, frame: Frame | Sequence[memoryview]) -> int:
        """How many bytes of the frame the kernel has; it may have none, and OpenSSL the first: then those are under way.

        An error says that OpenSSL took nothing of it.
        """
        self._shake()
        self._raise_output_error()
        self._send_pending()
        if self._encrypted:
            count, self._encrypted = self._encrypted, 0
            return count
        if not self._has_room():
            raise BlockingIOError
        count = 0
        for chunk in _chunks(frame):
            self._encrypt(chunk)
            try:
                self._send_pending()
            except OSError:  # which the next try meets again, if it lasts
                self._encrypted = len(chunk)
                break
            count += len(chunk)
        return count

    def _encrypt(self, chunk: memoryview) -> None:
        try:
            self._ssl.write(chunk)
        except ssl.SSLError as error:
            self._output_error = self._explained(error)
            raise self._output_error from None

    def _write(self, frame: Frame, frames: Sequence[Frame] = (), fds: Sequence[int] = ()) -> None:
        super()._write(frame)  # a batch is one thing: an encrypted message can't be taken back from behind another one

    def _has_room(self) -> bool:
        if self._room is None:
            self._room = select.poll()
            self._room.register(self._handle.fd, select.POLLOUT)
        return bool(self._room.poll(0))

    def _raise_output_error(self) -> None:
        if self._output_error is not None:
            raise self._output_error.with_traceback(None)

    def _send_pending(self) -> None:
        """Give the kernel all ciphertext that there is, or BlockingIOError."""
        while self._pending or self._cipher_out.pending:
            if not self._pending:
                self._pending = memoryview(self._cipher_out.read())
            try:
                sent = self._handle.socket().send(self._pending, socket.MSG_NOSIGNAL)
            except OSError as error:
                if error.errno not in _PASSING:
                    self._output_error = error
                raise
            self._pending = self._pending[sent:]

    def _say(self) -> None:
        """Send what OpenSSL wants to say, if need be in the background: reading does not wait for it."""
        try:
            self._send_own()
        except BlockingIOError:
            if backend.running() and self._talking is not backend.current():
                self._talking = backend.current()
                backend.start_soon(self._say_later)
        except OSError:
            pass  # the peer is gone; what it sent before is still to be read, and then reading tells of it
        if self._cipher_out.pending > _MOST_UNSAID:
            self._end_input(ProtocolError(f"{self._name}: TLS: the peer asks for one answer after another, and reads none"))

    async def _say_later(self) -> None:
        try:
            with suppress(*GONE):
                await self._handle.writable.attempt(self._send_own)
        finally:
            self._talking = None

    def _send_own(self) -> None:
        """Behind a message that has begun, it goes with that one's rest: its sender need not be woken by somebody else's write."""
        if not self._encrypted:
            self._send_pending()

    def send(self, item: Buffer, **meta: Any) -> Coroutine[Any, Any, None]:
        sending = partial(super().send, item, **meta)
        return sending() if self._shaken else self._after_handshake(sending)

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        await self._after_handshake(partial(super().send_many, items, **meta))

    async def send_eof(self) -> None:
        await self._after_handshake(super().send_eof)
        await self._writing({}).attempt(self._send_own)

    async def _after_handshake(self, operation: Callable[[], Awaitable[None]]) -> None:
        if not self._shaken:
            await self.handshake()
        await operation()

    def _end_writing(self) -> None:
        """Say close_notify: the peer reads its end of stream, and may go on sending."""
        self._handle.check()
        self._early += self._decrypted()  # SSL_shutdown(3) throws away what it finds in the way
        with suppress(ssl.SSLError):  # it also looks for the peer's own close_notify, which is not due yet
            self._ssl.unwrap()
        self._say()
        self._output_ended = True

    def _finish_now(self) -> None:
        super()._finish_now()
        if not self._shaken or self._handle.closed or self._handle.forked:
            return
        if self._unfinished is None and not self._output_ended:  # else a message is cut short, and no close_notify says so
            with suppress(OSError):
                self._end_writing()
        self._forget_unread()

    def _forget_unread(self) -> None:
        """Closing a socket with unread bytes resets the connection (RFC 2525, 2.17), and a server sends tickets unasked."""
        with suppress(OSError):
            for _ in range(_MOST_UNREAD // READ_SIZE):
                if not os.read(self._handle.fd, READ_SIZE):
                    return

    def _explained(self, error: ssl.SSLError) -> Exception:
        if isinstance(error, ssl.SSLCertVerificationError):
            refused = CertificateRefused(error.errno, f"{self._name}: the peer's certificate: {error.verify_message}")
            refused.verify_code, refused.verify_message = error.verify_code, error.verify_message
            return refused
        if isinstance(error, ssl.SSLWantReadError):
            return ProtocolError(f"{self._name}: the peer wants to renegotiate (set ssl.OP_NO_RENEGOTIATION there)")
        if isinstance(error, ssl.SSLEOFError):
            when = "without close_notify: what came may have been cut short" if self._shaken else "during the TLS handshake"
            return ProtocolError(f"{self._name}: the connection ended {when}")
        return ProtocolError(f"{self._name}: TLS: {error.reason or error}")

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **super().extra_attributes,
            TLSAttribute.alpn_protocol: self._ssl.selected_alpn_protocol,
            TLSAttribute.channel_binding_tls_unique: self._ssl.get_channel_binding,
            TLSAttribute.cipher: self._ssl.cipher,
            TLSAttribute.peer_certificate: lambda: self._ssl.getpeercert(False),
            TLSAttribute.peer_certificate_binary: lambda: self._ssl.getpeercert(True),
            TLSAttribute.server_side: lambda: self._ssl.server_side,
            TLSAttribute.shared_ciphers: self._ssl.shared_ciphers,
            TLSAttribute.standard_compatible: lambda: not self._ragged_end,
            TLSAttribute.ssl_object: lambda: self._ssl,
            TLSAttribute.tls_version: self._ssl.version,
        }


def _chunks(frame: Frame | Sequence[memoryview]) -> Iterable[memoryview]:
    for piece in (frame,) if isinstance(frame, bytes) else frame:
        view = memoryview(piece)
        for start in range(0, len(view), _CHUNK):
            yield view[start : start + _CHUNK]


async def connect(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    ragged_end: bool = False,
    nodelay: bool = True,
    keepalive: bool = False,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> TlsChannel:
    """Connect as `tcp:` does, and make the handshake: CertificateRefused if the server's certificate is not good for the name.

    Without `ssl_context`, the certificate must come from an authority in `cafile`, or in the system's list. ProtocolError if
    the peer does not speak TLS. Cancelled: not connected.
    """
    chosen = framing_named(framing, max_message_size)
    context = await client_context(address, ssl_context, cafile, certfile, keyfile)
    name = endpoint(address).host if server_hostname is None else server_hostname
    prepare = partial(
        set_options,
        where=address.url,
        nodelay=nodelay,
        keepalive=keepalive,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )
    handle = await dial(address, prepare)
    try:
        channel = TlsChannel(handle, chosen, partial(context.wrap_bio, server_hostname=name), ragged_end=ragged_end)
        await channel.handshake()
    except BaseException:
        handle.close()
        raise
    return channel


async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    ssl_context: ssl.SSLContext | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    cafile: str | None = None,
    ragged_end: bool = False,
    backlog: int = 1024,
    max_connections: int | None = None,
    nodelay: bool = True,
    keepalive: bool = False,
    reuse: bool = False,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> InetListener[TlsChannel]:
    """Listen as `tcp:` does, with `certfile` and `keyfile`, or an `ssl_context`. With `cafile`, clients need certificates, too.

    Accepting does not wait for a handshake: a client that never makes one holds up nobody but its own handler.
    """
    chosen = framing_named(framing, max_message_size)
    context = await server_context(address, ssl_context, cafile, certfile, keyfile)
    prepare = partial(
        set_options,
        where=address.url,
        nodelay=nodelay,
        keepalive=keepalive,
        reuse=reuse or None,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )

    def wrap(connection: socket.socket) -> TlsChannel:
        handle = SocketHandle(connection, address.url)
        return TlsChannel(handle, chosen, partial(context.wrap_bio, server_side=True), ragged_end=ragged_end)

    return InetListener(await bind(address, prepare, backlog), wrap, max_connections=max_connections)
