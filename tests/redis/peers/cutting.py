"""A proxy that cuts each connection after so many bytes, wherever that is: in a command, in an answer, in the greeting."""

from __future__ import annotations

import random
import select
import socket
from contextlib import suppress
from threading import Thread


class CuttingProxy:
    """Between clients at `path` and a server, both Unix sockets. `cuts` counts."""

    def __init__(self, path: str, server: str, least: int, most: int, seed: int) -> None:
        self.path = path
        self.cuts = 0
        self._server = server
        self._range = least, most
        self._random = random.Random(seed)
        self._threads: list[Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(100)
        self._start(self._accept)

    def _start(self, *target: object) -> None:
        function, *arguments = target
        thread = Thread(target=function, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._forward, client, self._random.randint(*self._range))

    def _forward(self, client: socket.socket, left: int) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._server)
            other = {client: server, server: client}
            while left:
                for sock in select.select([client, server], [], [])[0]:
                    data = sock.recv(min(left, 65536))
                    if not data:
                        return
                    other[sock].sendall(data)
                    left -= len(data)
                    if not left:
                        break
            self.cuts += 1

    def end(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
