"""Which tests have to notice a defect: those of its room, the nearest first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

ROOMS = (
    "aipc/_io",
    "aipc/_child",
    "aipc/wire",
    "aipc/transports",
    "aipc/locks",
    "aipc/sync",
    "aipc/processes",
    "aipc/services",
    "aipc/redis",
    "aipc/_inspect",
)
"""Where defects are put."""

_SUITES = "tests/test_{conformance,cancellation}.py tests/opening/test_{modes,opening_*}.py"
_CHILDREN = "tests/processes tests/transports/**/test_process.py"
_ANY_LOCK = "tests/locks/test_{fairness,forked,turns,*_waiters}.py tests/io/doorbell"
_POOL = "tests/processes/pools"
_STREAMS = "tests/wire tests/transports/**/test_{unix,pipe,descriptor,fifo,tcp,unix_descriptors}.py"


@dataclass(frozen=True)
class Tests:
    """Files, as patterns with braces, and for which subjects the common suites run: a `-k` expression, "" for none, "all"."""

    files: str
    subjects: str


_TESTS = {
    "aipc/_io/": Tests("tests/io tests/lifecycle/test_prefork.py", "all"),
    "aipc/_io/shown": Tests("tests/objects/test_repr.py", ""),
    "aipc/_io/long_waits": Tests("tests/test_logging.py", ""),
    "aipc/_inspect/": Tests("tests/objects/test_{inspect,objects}.py", ""),
    "aipc/_child/": Tests(_CHILDREN, "exec or popen"),
    "aipc/_io/loop/connection_tasks": Tests(
        "tests/transports/**/test_{serve_limits,unix_serve,drain_backlog,listener*,tcp}.py tests/lifecycle/test_service.py",
        "unix or tcp",
    ),
    "aipc/_io/errors": Tests("tests/io tests/transports tests/locks tests/objects/test_objects.py", "all"),
    "aipc/_sys/files": Tests("tests/transports/**/test_unix*.py", "unix"),
    "aipc/transports/shm/readiness": Tests("tests/transports/**/test_shm*.py", "shm"),
    "aipc/_io/loop/signals": Tests("tests/signals tests/lifecycle/test_service.py", "signal"),
    "aipc/transports/pipes/fifo_write_lock": Tests("tests/transports/**/test_fifo*.py", "fifo"),
    "aipc/cli/": Tests("tests/cli tests/test_tour.py", ""),
    "aipc/locks/": Tests("tests/locks", "test_lock or test_acquire or test_operate or test_wait_zero"),
    "aipc/locks/byte_range": Tests("tests/locks/files/test_{byte_range,process_locks,file_lock*}.py " + _ANY_LOCK, "fcntl"),
    "aipc/locks/flock": Tests("tests/locks/files/test_{flock*,file_lock*}.py " + _ANY_LOCK, "flock"),
    "aipc/locks/file_lock_base": Tests(
        "tests/locks/files/test_{flock*,byte_range,process_locks,file_lock*}.py " + _ANY_LOCK, "flock or fcntl"
    ),
    "aipc/locks/posix": Tests("tests/locks/semaphores/test_{posix*,semaphores,holder_records}.py " + _ANY_LOCK, "posix-sem"),
    "aipc/locks/sysv": Tests(
        "tests/locks/semaphores/test_{sysv*,semaphores,layouts}.py " + _ANY_LOCK, "sysv-sem or test_operate or test_wait_zero"
    ),
    "aipc/locks/sysv_opening": Tests(
        "tests/locks/semaphores/test_{sysv*,semaphores,layouts}.py tests/sync " + _ANY_LOCK,
        "sysv-sem or test_operate or test_wait_zero",
    ),
    "aipc/redis/": Tests("tests/redis", "redis"),
    "aipc/processes/": Tests("tests/processes", "exec or popen"),
    "aipc/processes/backoff": Tests(_POOL, ""),
    "aipc/processes/changes": Tests(_POOL, ""),
    "aipc/processes/numbered": Tests(_POOL, ""),
    "aipc/processes/asking": Tests(_POOL, ""),
    "aipc/processes/answering": Tests(_POOL, ""),
    "aipc/processes/pools": Tests(_POOL, ""),
    "aipc/processes/pipeline": Tests("tests/processes/test_{pipeline,redirections,ending,groups_and_usage}.py", ""),
    "aipc/processes/run": Tests("tests/processes/test_run.py", ""),
    "aipc/processes/exchange": Tests("tests/processes/test_{run,pipeline}.py", ""),
    "aipc/processes/redirect": Tests("tests/processes/test_{pipeline,redirections,ending,popen}.py", "popen"),
    "aipc/processes/spawn": Tests("tests/processes/**/test_{spawn,pool}*.py", ""),
    "aipc/processes/task_pickle": Tests("tests/processes/**/test_{spawn,pool}*.py", ""),
    "aipc/processes/workers/worker": Tests("tests/processes/**/test_{spawn,pool}*.py", ""),
    "aipc/services/": Tests("tests/services", ""),
    "aipc/services/rpc": Tests("tests/services/rpc/test_rpc*.py", ""),
    "aipc/services/supervise": Tests("tests/services/test_supervise.py", ""),
    "aipc/services/typed": Tests("tests/services/test_typed.py", ""),
    "aipc/sync/": Tests("tests/sync tests/opening/test_modes.py", ""),
    "aipc/transports/": Tests("tests/transports", "all"),
    "aipc/transports/frame_sender": Tests(
        f"{_STREAMS} tests/transports/**/test_{{tls*,shm*,stream_*}}.py", "unix or pipe or fd or fifo or tcp or shm"
    ),
    "aipc/transports/byte_stream": Tests(f"{_STREAMS} tests/transports/**/test_tls.py", "unix or pipe or fd or fifo or tcp"),
    "aipc/transports/fd": Tests("tests/transports/**/test_{descriptor,pipe,fifo,unix,tls,packet_descriptors}*.py", "fd"),
    "aipc/transports/pipes/fifo": Tests("tests/transports/**/test_fifo*.py", "fifo"),
    "aipc/transports/inet/": Tests("tests/transports/**/test_{tcp,tls,udp}*.py", "tcp or udp or tls"),
    "aipc/transports/listener": Tests(
        "tests/transports/**/test_{unix*,serve_limits,drain_backlog,tcp*,tls*,descriptor_listener,accept*,listener*}.py",
        "unix or tcp",
    ),
    "aipc/transports/packet": Tests(
        "tests/transports/**/test_{unix_seqpacket,unix_datagram,udp,packet*}.py", "seqpacket or dgram or udp"
    ),
    "aipc/transports/pair": Tests("tests/transports/**/test_pair.py", "pair"),
    "aipc/transports/pipes/pipe": Tests(
        "tests/transports/**/test_{pipe,fifo*,process,descriptor}.py tests/processes/test_popen.py", "pipe or fifo or popen"
    ),
    "aipc/transports/queues/posix_mq": Tests("tests/transports/**/test_posix_mq*.py", "posix-mq or test_posix_queue"),
    "aipc/transports/process": Tests(_CHILDREN, "exec or popen"),
    "aipc/transports/queues/realtime_signal": Tests(
        "tests/transports/**/test_realtime_signal.py tests/signals/test_alone.py", "signal"
    ),
    "aipc/transports/unix/packet": Tests("tests/transports/**/test_{unix_seqpacket,packet*,pair}.py", "seqpacket"),
    "aipc/transports/shm/": Tests("tests/transports/**/test_{shm*,pair}.py", "shm"),
    "aipc/transports/socket_stream": Tests(_STREAMS, "unix or tcp"),
    "aipc/transports/queues/sysv_mq": Tests("tests/transports/**/test_sysv_mq*.py", "sysv-mq"),
    "aipc/transports/inet/tcp": Tests("tests/transports/**/test_{tcp*,tls}.py", "tcp"),
    "aipc/transports/inet/tls": Tests("tests/transports/**/test_tls*.py", "tls"),
    "aipc/transports/inet/udp": Tests("tests/transports/**/test_{udp,packet*}.py", "udp"),
    "aipc/transports/unix/": Tests("tests/transports/**/test_unix*.py", "unix"),
    "aipc/transports/unix/datagram": Tests("tests/transports/**/test_{unix_datagram,unix_paths,packet*,pair}.py", "dgram"),
    "aipc/transports/unix/seqpacket": Tests(
        "tests/transports/**/test_{unix_seqpacket,unix_paths,unix_serve,packet*,pair}.py", "seqpacket"
    ),
    "aipc/transports/common_options": Tests("tests/services/test_{locking,reconnecting}.py", ""),
    "aipc/wire/": Tests(
        "tests/wire tests/transports/**/test_{shm*,unix,pipe}.py tests/memory/test_snapshot.py", "unix or fifo or fd or shm"
    ),
    "aipc/wire/broadcast": Tests("tests/wire/test_broadcast.py tests/services/test_topics_shm.py", ""),
    "aipc/wire/framing": Tests(_STREAMS, "unix or fifo or fd"),
    "aipc/wire/ring": Tests("tests/wire/test_ring*.py tests/transports/**/test_shm*.py", "shm"),
    "aipc/wire/snapshot": Tests("tests/memory/test_snapshot*.py", "test_changed"),
}
"""The longest prefix that fits counts. What a survivor takes is what these take: the more exact, the quicker."""


def tests_of(path: str, root: Path) -> list[list[str]]:
    """Arguments of pytest: first for the files, then for the common suites."""
    chosen = _TESTS[max((prefix for prefix in _TESTS if path.startswith(prefix)), key=len)]
    stem = PurePath(path).stem
    runs = [sorted(_found(chosen.files, root), key=lambda file: f"test_{stem}" not in file)]
    if chosen.subjects:
        runs.append([*_found(_SUITES, root), "-k", "" if chosen.subjects == "all" else chosen.subjects])
    return runs


def _found(patterns: str, root: Path) -> list[str]:
    """The files, each once; of a directory its tests."""
    found = [path for pattern in patterns.split() for plain in _braces(pattern) for path in sorted(root.glob(plain))]
    files = [file for path in found for file in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])]
    return list(dict.fromkeys(str(file.relative_to(root)) for file in files))


def _braces(pattern: str) -> list[str]:
    """`a{b,c}d` as `abd` and `acd`."""
    before, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    inside, _, after = rest.partition("}")
    return [before + choice + after for choice in inside.split(",")]
