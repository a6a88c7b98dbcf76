"""POSIX segments and a C program, with a named semaphore between them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import posix_ipc
import pytest

import aipc

from ..peers import compile_peer, isolated, process, python, run, said
from ..subjects import new_name


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("segment", tmp_path_factory))


def test_c_reads_and_writes(c_peer: str) -> None:
    name = new_name()
    with aipc.SharedMemory.create(name, 1001, unlink=True) as segment:
        segment.buf[:6] = b"hello\0"
        assert run(c_peer, "posix", "read", name) == "hello\n"
        run(c_peer, "posix", "write", name, "good day")
        assert bytes(segment.buf[:9]) == b"good day\0"


def test_opens_what_c_made(c_peer: str) -> None:
    name = new_name()
    run(c_peer, "posix", "create", name, "777")
    with aipc.SharedMemory.open(name) as segment:
        assert segment.size == 777
        assert bytes(segment.buf[:10]) == b"made in C\0"
        segment.unlink()


def test_a_named_semaphore_guards_it(c_peer: str) -> None:
    """Both count at once; each step is read, add, write, so that one without the semaphore would lose steps."""
    name, steps = new_name(), 20_000
    semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=1)
    try:
        with (
            aipc.SharedMemory.create(name, 8, unlink=True) as segment,
            process(c_peer, "posix", "count", name, name, str(steps)) as peer,
            segment.buf.cast("Q") as counter,
        ):
            assert said(peer) == "ready"
            for _ in range(steps):
                with semaphore:
                    counter[0] += 1
            assert peer.wait() == 0
            assert counter[0] == 2 * steps
    finally:
        semaphore.unlink()
        semaphore.close()


def test_a_full_file_system_is_an_error_at_once() -> None:
    """Not SIGBUS at the first touch."""
    code = f"""
import os, subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", "/dev/shm"], check=True)
import aipc
try:
    aipc.SharedMemory.create("{new_name()}", 2 << 20)
except aipc.NoSpace as error:
    print(error)
print(os.listdir("/dev/shm"))
with aipc.SharedMemory.create("/fits", 1 << 19) as segment:
    try:
        segment.resize(2 << 20)
    except aipc.NoSpace as error:
        print(len(segment.buf), os.stat("/dev/shm/fits").st_size)
with aipc.SharedMemory.create("/sparse", 2 << 20, reserve=False) as segment:
    print(len(segment.buf))
"""
    out = isolated(code).splitlines()
    assert "No space left" in out[0]
    assert out[1:] == ["[]", "524288 524288", str(2 << 20)]


def test_over_the_limit_of_a_file() -> None:
    """RLIMIT_FSIZE: an error, and no segment."""
    name = new_name()
    code = f"""
import resource, aipc
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    aipc.SharedMemory.create("{name}", 2 << 20)
except aipc.NoSpace as error:
    print(error)
"""
    with python(code) as other:
        assert "too large" in said(other)
    with pytest.raises(aipc.ObjectMissing):
        aipc.SharedMemory.open(name)


def test_without_nameless_files() -> None:
    """Where a file system has none, as NFS, a new segment has a temporary name first: all else is the same."""
    code = f"""
import aipc, os
name = "{new_name()}"
with aipc.SharedMemory.create(name, 5000, unlink=True, mode=0o604) as segment, aipc.SharedMemory.open(name) as other:
    segment.buf[4999] = 1
    assert other.buf[4999] == 1 and os.stat(segment.fd).st_mode & 0o777 == 0o604
    try:
        aipc.SharedMemory.create(name, 1)
    except aipc.ObjectExists:
        print("once")
try:
    aipc.SharedMemory.create(name, 1 << 60)
except aipc.NoSpace:
    print([name for name in os.listdir("/dev/shm") if name.startswith(".aipc")])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "AIPC_DISABLE": "tmpfile"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"once\n[]\n"


def test_never_seen_half_made() -> None:
    """Whoever opens a segment while it is created over and over sees none, or all of it."""
    name = new_name()
    code = f"""
import aipc
print("begun", flush=True)
for _ in range(300):
    with aipc.SharedMemory.create("{name}", 100_000, mode=0o640, unlink=True):
        pass
"""
    with python(code) as maker:
        assert said(maker) == "begun"
        seen = 0
        while maker.poll() is None or seen == 0:
            try:
                with aipc.SharedMemory.open(name) as segment:
                    assert segment.size == 100_000
                    assert os.stat(segment.fd).st_mode & 0o777 == 0o640
                    seen += 1
            except aipc.ObjectMissing:
                if maker.poll() is not None:
                    break
        assert maker.wait() == 0
    assert seen
    assert not Path("/dev/shm" + name).exists()
