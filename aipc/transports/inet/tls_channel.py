"""TLS over TCP, by the standard library's `ssl` module (OpenSSL), used without I/O of its own.

anyio's TLSStream does not fit: it takes a record out of OpenSSL and then awaits the sending, so a cancelled `send` loses the record,
and with it the connection; and it has no calls without waiting. Here, too, each try is one non-blocking step:

- Reading decrypts all available data before it reads the socket again, so that no task waits while OpenSSL has data.
- Writing encrypts only when the socket has room. Plaintext counts as sent when the kernel has its records. Records cannot be taken
  back: plaintext that OpenSSL has taken will be sent, whatever the socket says, and records that the kernel did not take go before
  everything else.
- The handshake is a step of reading. OpenSSL's own output (its part of the handshake, tickets, new keys) is sent at once, or in the
  background when there is room.
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

from aipc._io.handle import SocketHandle
from aipc._io.loop import backend
from aipc.abc import Buffer
from aipc.exceptions import CertificateRefused, ProtocolError
from aipc.wire.framing import Frame, Framing

from ..byte_stream import READ_SIZE
from ..frame_sender import GONE
from .stream import InetStreamChannel

_RECORD = 16 * 1024
_CHUNK = 64 * 1024
"""Plaintext bytes encrypted at a time: more would only wait here, encrypted, until the kernel has room."""
_MOST_UNREAD = 1024 * 1024
_MOST_UNSAID = 256 * 1024
"""Bytes of OpenSSL's own output that may wait: a peer that keeps asking for new keys and reads nothing causes more."""
_PASSING = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Errors of send(2) after which it may still take the same records."""


class TlsChannel(InetStreamChannel):
    """Messages over TLS. An accepted channel does its handshake with its first operation, or with `handshake`."""

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
        self._early = b""  # decrypted, and not yet read
        self._input_end: Exception | bool = False  # True after the peer's close_notify
        self._pending = memoryview(b"")  # ciphertext that the kernel did not take yet
        self._encrypted = 0  # bytes at the front of `_unfinished` that stand in `_pending`
        self._output_error: Exception | None = None  # nothing can be sent any more
        self._talking: object = None  # the loop on which a background task sends `_pending`
        self._room: select.poll | None = None

    async def handshake(self) -> None:
        """Do the handshake now, to know the peer before any message; otherwise the first operation does it.

        CertificateRefused, ProtocolError. Cancelled: it continues with the next operation.
        """
        await self._handle.readable.attempt(self._shake)

    def _shake(self) -> None:
        self._handle.check()
        while not self._shaken:
            self._raise_input_error()
            try:
                self._ssl.do_handshake()
                self._shaken = True
                self._handle.readable.wake_all()  # senders wait there, too, and no more data may come
            except ssl.SSLWantReadError:
                self._say()
                self._refill()
            except ssl.SSLError as error:
                self._end_input(self._explained(error))
            self._say()

    def _end_input(self, end: Exception | Literal[True]) -> None:
        """Note for every waiting task that no more can be decrypted. True: the peer announced its end."""
        self._input_end = end
        self._handle.readable.wake_all()

    def _refill(self) -> None:
        """Call recv(2) once."""
        try:
            cipher = os.read(self._handle.fd, READ_SIZE)
        except BlockingIOError:
            raise
        except OSError as error:
            self._end_input(error)  # the kernel reports it once, and then the end of the stream
            raise
        if cipher:
            self._cipher_in.write(cipher)
        else:
            self._cipher_in.write_eof()

    def _decrypted(self) -> bytes:
        """Return all data that can be decrypted by now."""
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
        """Return how many bytes of the frame the kernel took. It may be none while OpenSSL took some: those will be sent.

        An error means that OpenSSL took nothing of the frame.
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
            except OSError:  # if it lasts, the next try raises it again
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
        super()._write(frame)  # no batches: an encrypted message cannot be taken back

    def _has_room(self) -> bool:
        if self._room is None:
            self._room = select.poll()
            self._room.register(self._handle.fd, select.POLLOUT)
        return bool(self._room.poll(0))

    def _raise_output_error(self) -> None:
        if self._output_error is not None:
            raise self._output_error.with_traceback(None)

    def _send_pending(self) -> None:
        """Give the kernel all pending ciphertext, or raise BlockingIOError."""
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
        """Send OpenSSL's own output, in the background if need be: reading does not wait for it."""
        try:
            self._send_own()
        except BlockingIOError:
            if backend.running() and self._talking is not backend.current():
                self._talking = backend.current()
                backend.start_soon(self._say_later)
        except OSError:
            pass  # the peer is gone; its last data can still be read, and reading then reports it
        if self._cipher_out.pending > _MOST_UNSAID:
            self._end_input(ProtocolError(f"{self._name}: TLS: the peer asks for one answer after another, and reads none"))

    async def _say_later(self) -> None:
        try:
            with suppress(*GONE):
                await self._handle.writable.attempt(self._send_own)
        finally:
            self._talking = None

    def _send_own(self) -> None:
        """Behind an unfinished message, this output is sent with the rest of it: so no other task's write must wake its sender."""
        if not self._encrypted:
            self._send_pending()

    def send(self, item: Buffer, **meta: Any) -> Coroutine[Any, Any, None]:
        sending = partial(super().send, item, **meta)
        return sending() if self._shaken else self._after_handshake(sending)

    def hold_nowait(self, item: Buffer) -> None:
        self.send_nowait(item)  # plaintext that waits unencrypted would be behind OpenSSL's own output

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
        """Send close_notify: the peer reads its end of stream, and may still send."""
        self._handle.check()
        self._early += self._decrypted()  # SSL_shutdown(3) drops data that is not read yet
        with suppress(ssl.SSLError):  # it also expects the peer's close_notify, which may come later
            self._ssl.unwrap()
        self._say()
        self._output_ended = True

    def _finish_now(self) -> None:
        super()._finish_now()
        if not self._shaken or self._handle.closed or self._handle.forked:
            return
        if (
            self._unfinished is None and not self._output_ended
        ):  # otherwise a message is cut short, and must not end with close_notify
            with suppress(OSError):
                self._end_writing()
        self._forget_unread()

    def _forget_unread(self) -> None:
        """Discard unread bytes: closing a socket with them resets the connection (RFC 2525, 2.17), and servers send tickets unasked."""
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
