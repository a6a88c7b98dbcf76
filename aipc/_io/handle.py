"""Ownership: a handle owns one descriptor or kernel object, closes it once, and explains its errors."""

from __future__ import annotations

import errno
import logging
import os
import socket
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import anyio

from aipc.exceptions import AipcError, ForkedError

from . import fork
from .errors import translate
from .loop.reactor import READ, WRITE
from .polling import Polling
from .readiness import Readiness
from .waiter import Arguments, Result, Waiter

_logger = logging.getLogger("aipc")
_Socket: TypeAlias = socket.socket


class Handle(ABC):
    """The object that a channel or a lock owns. `name` is its URL, or another name for error texts.

    A forked child's copy refuses to work. Its descriptor stays open in the child, which may use the number for an object of
    its own (`fd:N`).
    """

    _IS_OBJECT: ClassVar[bool] = True
    """Whether it stands for something that a user opened, so that its end is logged."""

    __slots__ = ("__weakref__", "closed", "generation", "name")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.closed: bool = False
        self.generation: int = fork.generation

    @property
    def forked(self) -> bool:
        """Whether this is a forked child's copy."""
        return self.generation != fork.generation

    def explain(self, error: OSError) -> Exception:
        """Return the error that the user should see for `error`, raised by a system call on this object."""
        if self.forked:
            return ForkedError(f"{self.name}: opened before fork(2); open it anew in the child")
        if self.closed and not isinstance(error, AipcError):
            return anyio.ClosedResourceError(f"{self.name}: closed")
        return translate(error, self.name)

    def check(self) -> None:
        """Raise EBADF, which `explain` translates, if this object was closed or is a forked child's copy."""
        if self.closed or self.forked:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def call(self, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Return `call(*arguments)`, a plain call on this object; `explain` translates its OSError.

        ClosedResourceError or ForkedError, and nothing is called, if this object was closed or is a forked child's copy.
        """
        try:
            self.check()
            return call(*arguments)
        except OSError as error:
            raise self.explain(error) from error

    def close(self) -> None:
        """Give the object back to the kernel. Idempotent; waiting tasks wake and find it closed. In a forked child: nothing."""
        if not self.closed:
            self.closed = True
            if self._IS_OBJECT and _logger.isEnabledFor(logging.DEBUG):
                _logger.debug("%s: closed", self.name)
            if not self.forked:
                self._close()

    @abstractmethod
    def _close(self) -> None: ...


class FileHandle(Handle):
    """Owns a descriptor: non-blocking, and -1 once closed, so that no later call uses a reused number."""

    __slots__ = ("_spins", "_writable", "fd", "readable")

    def __init__(self, fd: int, name: str, *, spins: bool = True) -> None:
        super().__init__(name)
        os.set_blocking(fd, False)
        self.fd: int = fd
        self.readable: Readiness = Readiness(self, fd, READ, spins=spins)
        self._writable: Waiter | None = None
        self._spins = spins

    @property
    def writable(self) -> Waiter:
        """Waits until the descriptor can be written to. Made at its first use: a server's idle connections need none."""
        if self._writable is None:
            self._writable = Readiness(self, self.fd, WRITE, spins=self._spins)
        return self._writable

    def end_writing(self) -> None:
        """End the stream: a pipe's end of file is its writer's close(2)."""
        self.close()

    def _close(self) -> None:
        self.readable.close()
        if self._writable is not None:
            self._writable.close()
        fd, self.fd = self.fd, -1
        self._release(fd)

    def _release(self, fd: int) -> None:
        os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0 and not self.forked:
            warnings.warn(f"{self.name}: never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()


class SocketHandle(FileHandle):
    """Owns a connected socket's descriptor. Bytes go by read(2) and write(2), as for any descriptor.

    The socket object is made when it is needed: most connections never need it, and it takes 120 bytes.
    """

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket, name: str) -> None:
        super().__init__(sock.detach(), name)
        self._sock: socket.socket | None = None

    def socket(self) -> socket.socket:
        """Return the socket object: non-blocking, and closed together with this handle. EBADF once the handle is closed."""
        self.check()
        if self._sock is None:
            self._sock = socket.socket(fileno=self.fd)
            self._sock.setblocking(False)
        return self._sock

    def ask(self, question: Callable[[_Socket], Result]) -> Result:
        """Return `question(socket)`, like `call`."""
        return self.call(lambda: question(self.socket()))

    def glance(self, question: Callable[[_Socket], Result]) -> Result:
        """Like `ask`, but no socket object stays: `repr` of an idle connection must not cost memory."""
        made = self._sock is None
        try:
            return self.ask(question)
        finally:
            if made and self._sock is not None:
                self._sock.detach()
                self._sock = None

    def end_writing(self) -> None:
        """Shut the sending half down (shutdown(2))."""
        self.socket().shutdown(socket.SHUT_WR)

    def _release(self, fd: int) -> None:
        if self._sock is None:
            super()._release(fd)
        else:
            self._sock.close()


class ListenerHandle(FileHandle):
    """Owns a listening socket."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket, name: str) -> None:
        super().__init__(sock.fileno(), name)
        self.sock: socket.socket = sock

    def ask(self, question: Callable[[_Socket], Result]) -> Result:
        """Return `question(socket)`, like `call`."""
        return self.call(question, self.sock)

    def _release(self, fd: int) -> None:
        self.sock.close()


class AddressHandle(Handle):
    """Owns nothing: represents an address while an object is opened there, and polls until that is possible."""

    _IS_OBJECT: ClassVar[bool] = False

    __slots__ = ("polling",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.polling: Polling = Polling(self)

    def _close(self) -> None:
        self.polling.close()
