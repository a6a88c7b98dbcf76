"""Every Unix interprocess-communication mechanism, awaitable.

abc.py          the contracts: Channel, Listener, Lock, Semaphore, Segment
exceptions.py   the error tree
_address.py     URL -> Address
_open.py        open_channel, listen, open_lock: the scheme table
transports/     moves data, one mechanism a file
locks/          mutual exclusion: locks and semaphores
memory/         shares memory
sync/           Event, Condition, Barrier, RWLock, between processes
signals.py      signals, received and sent
systemd.py      messages between a service and systemd
wire/           framing, without I/O
processes/      children: popen, pipeline, spawn, spawn_pool
lifecycle.py    the life cycle of a service
_io/            waiting; the only room that knows the event loops
_sys/           plain system calls
testing/        conformance suites, cancellation injector, leak checker: for your own transports, too
cli/            the `aipc` command
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipc._objects import IpcObject as IpcObject
    from aipc._objects import list_objects as list_objects
    from aipc._objects import remove_object as remove_object
    from aipc._open import Opening as Opening
    from aipc._open import listen as listen
    from aipc._open import open_channel as open_channel
    from aipc._open import open_lock as open_lock
    from aipc._sys.processes import describe_exit as describe_exit
    from aipc._sys.signals.mask import blocked_signals as blocked_signals
    from aipc._sys.signals.signalfd import SignalInfo as SignalInfo
    from aipc._sys.sysv.queue import SysVQueueStatus as SysVQueueStatus
    from aipc.abc import Channel as Channel
    from aipc.abc import ChannelAttribute as ChannelAttribute
    from aipc.abc import ChannelStatistics as ChannelStatistics
    from aipc.abc import Credentials as Credentials
    from aipc.abc import Listener as Listener
    from aipc.abc import Lock as Lock
    from aipc.abc import Message as Message
    from aipc.abc import Segment as Segment
    from aipc.abc import Semaphore as Semaphore
    from aipc.exceptions import AccessDenied as AccessDenied
    from aipc.exceptions import AddressError as AddressError
    from aipc.exceptions import AipcError as AipcError
    from aipc.exceptions import BrokenBarrierError as BrokenBarrierError
    from aipc.exceptions import CertificateRefused as CertificateRefused
    from aipc.exceptions import ForkedError as ForkedError
    from aipc.exceptions import InvalidMessage as InvalidMessage
    from aipc.exceptions import LimitExceeded as LimitExceeded
    from aipc.exceptions import MessageTooLarge as MessageTooLarge
    from aipc.exceptions import NobodyListens as NobodyListens
    from aipc.exceptions import NoSpace as NoSpace
    from aipc.exceptions import ObjectExists as ObjectExists
    from aipc.exceptions import ObjectMissing as ObjectMissing
    from aipc.exceptions import ObjectRemoved as ObjectRemoved
    from aipc.exceptions import ProcessMissing as ProcessMissing
    from aipc.exceptions import ProtocolError as ProtocolError
    from aipc.exceptions import SegmentInUse as SegmentInUse
    from aipc.exceptions import UnknownHost as UnknownHost
    from aipc.exceptions import UnsupportedOperation as UnsupportedOperation
    from aipc.exceptions import WorkerDied as WorkerDied
    from aipc.exceptions import WorkerFailed as WorkerFailed
    from aipc.exceptions import WrongObject as WrongObject
    from aipc.lifecycle import Service as Service
    from aipc.lifecycle import service as service
    from aipc.locks.byte_range import ByteRangeLock as ByteRangeLock
    from aipc.locks.sysv_semaphore_set import SysVSemaphoreSet as SysVSemaphoreSet
    from aipc.memory.mapped_file import MappedFile as MappedFile
    from aipc.memory.memfd import MemfdSegment as MemfdSegment
    from aipc.memory.posix import SharedMemory as SharedMemory
    from aipc.memory.snapshot import Snapshot as Snapshot
    from aipc.memory.sysv import SysVSharedMemory as SysVSharedMemory
    from aipc.processes.children import pipeline as pipeline
    from aipc.processes.children import popen as popen
    from aipc.processes.pipeline import Pipeline as Pipeline
    from aipc.processes.pool import Pool as Pool
    from aipc.processes.pool import spawn_pool as spawn_pool
    from aipc.processes.spawn import spawn as spawn
    from aipc.processes.stopping import stop_children as stop_children
    from aipc.processes.worker import Worker as Worker
    from aipc.signals import SignalReceiver as SignalReceiver
    from aipc.signals import open_signal_receiver as open_signal_receiver
    from aipc.signals import send_signal as send_signal
    from aipc.sync.barrier import Barrier as Barrier
    from aipc.sync.condition import Condition as Condition
    from aipc.sync.event import Event as Event
    from aipc.sync.rwlock import RWLock as RWLock
    from aipc.transports.pair import channel_pair as channel_pair
    from aipc.transports.process import ProcessChannel as ProcessChannel
    from aipc.transports.sysv_mq import SysVQueueChannel as SysVQueueChannel

    from .transports.pipes.pipe import pipe as pipe
    from .transports.shm.channel import RingChannel as RingChannel

_HOMES = {
    "aipc._objects": ("IpcObject", "list_objects", "remove_object"),
    "aipc._open": ("Opening", "listen", "open_channel", "open_lock"),
    "aipc._sys.processes": ("describe_exit",),
    "aipc._sys.signals.mask": ("blocked_signals",),
    "aipc._sys.signals.signalfd": ("SignalInfo",),
    "aipc._sys.sysv.queue": ("SysVQueueStatus",),
    "aipc.abc": (
        "Channel", "ChannelAttribute", "ChannelStatistics", "Credentials", "Listener", "Lock", "Message", "Segment",
        "Semaphore",
    ),
    "aipc.exceptions": (
        "AccessDenied", "AddressError", "AipcError", "BrokenBarrierError", "CertificateRefused", "ForkedError",
        "InvalidMessage", "LimitExceeded", "MessageTooLarge", "NoSpace", "NobodyListens", "ObjectExists",
        "ObjectMissing", "ObjectRemoved", "ProcessMissing", "ProtocolError", "SegmentInUse", "UnknownHost",
        "UnsupportedOperation", "WorkerDied", "WorkerFailed", "WrongObject",
    ),
    "aipc.lifecycle": ("Service", "service"),
    "aipc.locks.byte_range": ("ByteRangeLock",),
    "aipc.locks.sysv_semaphore_set": ("SysVSemaphoreSet",),
    "aipc.memory.mapped_file": ("MappedFile",),
    "aipc.memory.memfd": ("MemfdSegment",),
    "aipc.memory.posix": ("SharedMemory",),
    "aipc.memory.snapshot": ("Snapshot",),
    "aipc.memory.sysv": ("SysVSharedMemory",),
    "aipc.processes.children": ("pipeline", "popen"),
    "aipc.processes.pipeline": ("Pipeline",),
    "aipc.processes.pool": ("Pool", "spawn_pool"),
    "aipc.processes.spawn": ("spawn",),
    "aipc.processes.stopping": ("stop_children",),
    "aipc.processes.worker": ("Worker",),
    "aipc.signals": ("SignalReceiver", "open_signal_receiver", "send_signal"),
    "aipc.sync.barrier": ("Barrier",),
    "aipc.sync.condition": ("Condition",),
    "aipc.sync.event": ("Event",),
    "aipc.sync.rwlock": ("RWLock",),
    "aipc.transports.pair": ("channel_pair",),
    "aipc.transports.pipes.pipe": ("pipe",),
    "aipc.transports.process": ("ProcessChannel",),
    "aipc.transports.shm.channel": ("RingChannel",),
    "aipc.transports.sysv_mq": ("SysVQueueChannel",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'aipc' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
