"""Every Unix interprocess-communication mechanism, awaitable.

abc.py          the contracts: Channel, Listener, Lock, Semaphore, Segment
exceptions.py   the error tree
_address.py     URL -> Address
_open.py        open_channel, listen, open_lock: the scheme table
_options.py     their options, for type checkers
_typed_openers.py   open_sysv_queue and its kin: openers that give a mechanism's own type
transports/     moves data, one mechanism a file
locks/          excludes
memory/         shares memory
sync/           Event, Condition, Barrier, RWLock between processes
signals.py      signals, received and sent
systemd.py      what a service tells systemd, and gets from it
wire/           framing, without I/O
processes/      children: popen, pipeline, spawn, spawn_pool
lifecycle.py    the life of a service
services/       typed messages and calls (`aipc.rpc`), over any channel
_io/            the only room that waits, and the only one that knows the event loops
_sys/           plain system calls
testing/        conformance suites, cancellation injector, leak checker: for your own transports, too
cli/            the `aipc` command
"""

import lazy_loader

# __init__.pyi has the public names, one a line; each is imported at its first use
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
