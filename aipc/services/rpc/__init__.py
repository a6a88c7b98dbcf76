"""Calls over any duplex channel: MessagePack-RPC or JSON-RPC 2.0, with deadlines, cancellation, streams, typed errors.

wires/          the two protocols and the extension, without I/O
peer.py                         one connection: reads, and dispatches each message
calls.py                        the calls of this side
handlers.py, answering.py       the calls of the other side: their number, and each one
outbox.py                       sends messages in order, and each one whole
router.py, method.py            the function for each call, checked by its annotations
client.py, stream.py, stub.py   the caller's interface; connect.py, serve.py: both ends of a connection
"""

from __future__ import annotations

from .caller import Caller as Caller
from .caller import current_caller as current_caller
from .client import Client as Client
from .connect import connect as connect
from .errors import CallCancelled as CallCancelled
from .errors import ConnectionLost as ConnectionLost
from .errors import DeadlineExceeded as DeadlineExceeded
from .errors import InvalidParameters as InvalidParameters
from .errors import MethodMissing as MethodMissing
from .errors import RemoteError as RemoteError
from .router import Router as Router
from .serve import Handler as Handler
from .serve import serve as serve
from .serve import serve_channel as serve_channel
from .stream import Stream as Stream
