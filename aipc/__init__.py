"""Every Unix interprocess-communication mechanism, awaitable.

abc.py          the contracts: Channel, Listener, Lock, Semaphore, Segment
exceptions.py   the error tree
_address.py     URL -> Address
_opening/       open_channel, listen, open_lock: the scheme table; open_sysv_queue and others, which return a mechanism's own type
_options.py     their options, for type checkers
_extras.py      how to install what is missing
_texts/         hints of errors, the text of `repr`
transports/     moves data, one mechanism a file
locks/          mutual exclusion: locks and semaphores
memory/         shares memory
sync/           Event, Condition, Barrier, RWLock, between processes
signals.py      signals, received and sent
systemd.py      messages between a service and systemd
wire/           framing, without I/O
services/       on top of channels: typed messages, calls (`aipc.rpc`), job queues, topics
processes/      children: popen, pipeline, spawn, spawn_pool
lifecycle.py    the life cycle of a service
_io/            waiting; the only room that knows the event loops
_sys/           plain system calls
testing/        conformance suites, cancellation injector, leak checker: for your own transports, too
cli/            the `aipc` command
"""

import lazy_loader

# __init__.pyi has the public names, one a line; each is imported at its first use
_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _import(name)
    except ModuleNotFoundError as error:
        from ._extras import missing

        raise missing(error.name) from error
