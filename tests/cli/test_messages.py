"""Messages by the command: sent, received, joined, published, and job queues."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import aipc

from .runs import run, started, wait_listening


def test_send_and_receive_over_a_queue(key: str) -> None:
    url = f"sysv-mq:{key}"
    assert run("send", f"{url}?create=1", "--type", "4", text="one\ntwo\n") == (0, "")
    assert run("send", url, "--whole", text="three\nlines\n") == (0, "")
    status, printed = run("receive", url, "-n", "3", "--json")
    assert status == 0
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"data": "one", "type": 4},
        {"data": "two", "type": 4},
        {"data": "three\nlines\n", "type": 1},
    ]
    aipc.remove_object("sysv-mq", key)


def test_listen_prints_and_ends_as_its_signal_says(place: Path) -> None:
    with started("listen", f"unix:{place}/socket") as listening:
        wait_listening(place / "socket")
        assert run("send", f"unix:{place}/socket", "hello") == (0, "")
        assert listening.stdout is not None
        assert listening.stdout.readline() == "hello\n"
        listening.send_signal(signal.SIGINT)
        assert listening.wait() == -signal.SIGINT
        assert listening.stdout.read() == ""


def test_cat_and_listen_with_a_command(place: Path) -> None:
    with started("listen", "--once", f"unix:{place}/socket", "--", "tr", "a-z", "A-Z") as listening:
        wait_listening(place / "socket")
        assert run("cat", f"unix:{place}/socket", text="hello\n") == (0, "HELLO\n")
        assert listening.wait() == 0


def test_output_that_nobody_reads_ends_by_sigpipe(place: Path) -> None:
    with started("listen", f"unix:{place}/socket") as listening:
        wait_listening(place / "socket")
        assert listening.stdout is not None
        listening.stdout.close()
        assert run("send", f"unix:{place}/socket", "hello")[0] == 0
        assert listening.wait() == -signal.SIGPIPE


def test_publish_and_subscribe(place: Path) -> None:
    with started("subscribe", "-n", "2", f"unix:{place}/topics", "eur.*") as subscribed:
        assert run("publish", f"unix:{place}/topics", "eur.usd", text="1.08\n1.09\n") == (0, "")
        assert subscribed.communicate()[0] == "eur.usd 1.08\neur.usd 1.09\n"
        assert subscribed.returncode == 0


def test_jobs(place: Path) -> None:
    path = f"{place}/queue"
    assert run("send", f"jobs:{path}?create=1&max_attempts=1", "--priority", "3", "resize") == (0, "")
    status, printed = run("jobs", "list", path)
    assert status == 0
    assert printed.splitlines()[-1] == "1 ready, 0 leased, 0 delayed, 0 dead"
    assert printed.splitlines()[1].split() == ["1", "ready", "1", "3", "0", "resize"]
    assert run("jobs", "purge", path) == (0, "removed 0 jobs\n")
    assert run("jobs", "retry", path) == (0, "0 jobs ready again\n")
    assert run("receive", f"jobs:{path}", "-n", "1") == (0, "resize\n")
    assert run("jobs", "list", f"{place}/none")[0] == 3


def test_dead_jobs_are_listed_retried_and_purged(place: Path) -> None:
    path = f"{place}/queue"
    assert run("send", f"jobs:{path}?create=1&max_attempts=1", "bad") == (0, "")
    _fail(path)
    assert json.loads(run("jobs", "list", "--json", path)[1])["jobs"][0]["state"] == "dead"
    assert run("jobs", "retry", path) == (0, "1 job ready again\n")
    _fail(path)
    assert run("jobs", "purge", path) == (0, "removed 1 job\n")
    assert run("jobs", "list", path)[1].splitlines()[-1] == "0 ready, 0 leased, 0 delayed, 0 dead"


def _fail(path: str) -> None:
    """Lease the job, and fail at it."""
    import anyio

    async def lease() -> None:
        async with aipc.open_jobs(f"jobs:{path}") as queue:
            try:
                async with queue.lease():
                    raise ValueError
            except ValueError:
                pass

    anyio.run(lease)
