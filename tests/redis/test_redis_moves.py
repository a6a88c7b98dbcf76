"""A job service moves from a file to a server by its URL alone: the same programs, the same outcome."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .peers.servers import shared_server


@pytest.fixture(params=["jobs", "redis"])
def url(request: pytest.FixtureRequest, place: Path) -> Iterator[str]:
    if request.param == "jobs":
        yield f"jobs:{place}/app.jobs?create=1"
        return
    yield shared_server().url("moved", create=1, lease_seconds=0.5)
    shared_server().command("FLUSHALL")


@contextmanager
def program(role: str, url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.services.jobs.consumers", role, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.costly
def test_a_job_service(url: str) -> None:
    """One process sends, one dies with a job, others do all of them."""
    with ExitStack() as stack:
        producer = stack.enter_context(program("produce", url))
        assert producer.stdout is not None
        holder = stack.enter_context(program("hold", url))
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        sent = {producer.stdout.readline().strip() for _ in range(100)}
        holder.kill()
        consumer = stack.enter_context(program("consume", url))
        assert consumer.stdout is not None
        done: set[str] = set()
        while not sent | {held} <= done:
            done.add(consumer.stdout.readline().strip())
