"""Pairs and pipes have no name by which a forked child could open them anew: its error says what to do instead."""

from __future__ import annotations

from aipc._io.handle import FileHandle, Handle, SocketHandle
from aipc.exceptions import ForkedError


class Nameless(Handle):
    """A handle of something without a name."""

    __slots__ = ()

    def explain(self, error: OSError) -> Exception:
        if not self.forked:
            return super().explain(error)
        return ForkedError(
            f"{self.name}: made before fork(2), and of no use in the child. Start the child with aipc.spawn, or aipc.popen and its "
            "pass_fds; a child that you fork yourself opens fd:N, where N is extra(ChannelAttribute.descriptor) here"
        )


class NamelessFile(Nameless, FileHandle):
    """An end of a pipe."""

    __slots__ = ()


class NamelessSocket(Nameless, SocketHandle):
    """An end of a pair of stream sockets."""

    __slots__ = ()
