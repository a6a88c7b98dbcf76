"""Servers that belong together, each at a port of its own: a master, its replica and a sentinel; or a cluster of three masters."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ...internet import free_port
from .servers import RedisServer

_HOST = "127.0.0.1"


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Servers tell each other; nothing tells us."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Group:
    """Servers by name, each with its files in a directory of that name. With `tls`, all talk by it: options for certificates."""

    def __init__(self, place: Path, tls: tuple[str, ...] = ()) -> None:
        self.place = place
        self.tls = tls
        self.scheme = "rediss" if tls else "redis"
        self.servers: list[RedisServer] = []

    def add(self, name: str, *options: str, config: str = "") -> tuple[RedisServer, int]:
        directory = self.place / name
        directory.mkdir()
        port = free_port(_HOST)
        if config:
            (directory / "conf").write_text(config)
            config = f"{directory}/conf"
        if self.tls:
            options = ("--tls-port", str(port), *self.tls, "--tls-replication", "yes", *options)
        else:
            options = ("--port", str(port), *options)
        server = RedisServer(directory, "--bind", _HOST, *options, config=config)
        self.servers.append(server)
        return server, port

    def end(self) -> None:
        for server in self.servers:
            server.end()


class Watched(Group):
    """A master and a replica that a sentinel watches, beside one that is not there."""

    def __init__(self, place: Path, tls: tuple[str, ...] = ()) -> None:
        super().__init__(place, tls)
        self.master, self.port = self.add("master", "--repl-diskless-sync-delay", "0")
        self.replica, self.replica_port = self.add("replica", "--replicaof", f"{_HOST} {self.port}")
        wait_until(lambda: b"master_link_status:up" in self.replica.command("INFO", "replication"))
        lines = [
            f"sentinel monitor it {_HOST} {self.port} 1",
            "sentinel down-after-milliseconds it 500",
            "sentinel failover-timeout it 2000",
        ]
        self.sentinel, self.sentinel_port = self.add("sentinel", "--sentinel", config="\n".join(lines))
        wait_until(lambda: b"slave0" in self.master.command("INFO", "replication"))
        wait_until(lambda: b"flags" in self.sentinel.command("SENTINEL", "REPLICAS", "it"))

    def url(self, name: str, master: str = "it", host: str = _HOST) -> str:
        return f"{self.scheme}-sentinel://{host}:{free_port(_HOST)},{host}:{self.sentinel_port}/{master}/0/{name}"

    def replicated(self) -> None:
        replicated(self.master, self.replica)


def replicated(master: RedisServer, replica: RedisServer) -> None:
    """Wait until the replica has what the master has."""
    wait_until(lambda: replica.command("DBSIZE") == master.command("DBSIZE"))
    offset = _field(master, "master_repl_offset")
    wait_until(lambda: _field(replica, "slave_repl_offset") >= offset)


def _field(server: RedisServer, name: str) -> int:
    text = server.command("INFO", "replication").decode()
    return int(text.partition(f"\n{name}:")[2].split()[0])


class Cluster(Group):
    """Three nodes, each with a third of the slots."""

    def __init__(self, place: Path, tls: tuple[str, ...] = ()) -> None:
        super().__init__(place, tls)
        self.ports: list[int] = []
        self._owners: dict[int, int] = {}  # of slots that were moved
        for number in range(3):
            node = self._add_node(number)
            node.command("CLUSTER", "ADDSLOTSRANGE", str(number * 5461), str(16383 if number == 2 else number * 5461 + 5460))
        for node in self.servers:
            wait_until(lambda node=node: b"cluster_state:ok" in node.command("CLUSTER", "INFO"))  # type: ignore[misc]
        self.names = [node.command("CLUSTER", "MYID").split()[1].decode() for node in self.servers]

    def _add_node(self, number: int) -> RedisServer:
        bus = free_port(_HOST)
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", str(bus)]
        options += ["--repl-diskless-sync-delay", "0"]
        options += ["--tls-cluster", "yes"] if self.tls else []
        node, port = self.add(f"node{number}", *options)
        self.ports.append(port)
        node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        if number:
            self.servers[0].command("CLUSTER", "MEET", _HOST, str(port), str(bus))
        return node

    def add_replica(self, master: int) -> RedisServer:
        """One node more, which replaces that one when it dies: the two others agree on that."""
        node = self._add_node(len(self.servers))
        wait_until(lambda: node.command("CLUSTER", "REPLICATE", self.names[master]).startswith(b"+OK"))
        wait_until(lambda: b"master_link_status:up" in node.command("INFO", "replication"))
        self.settle()
        return node

    def url(self, name: str, host: str = _HOST) -> str:
        return f"{self.scheme}-cluster://{host}:{free_port(_HOST)},{host}:{self.ports[0]},{host}:{self.ports[1]}/0/{name}"

    def slot(self, key: str) -> int:
        return int(self.servers[0].command("CLUSTER", "KEYSLOT", key)[1:])

    def owner(self, slot: int) -> int:
        return self._owners.get(slot, min(slot // 5461, 2))

    def begin_move(self, slot: int) -> tuple[int, int]:
        """Begin to move a slot to the next node: the numbers of both."""
        source = self.owner(slot)
        target = (source + 1) % 3
        self.servers[target].command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.names[source])
        self.servers[source].command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.names[target])
        return source, target

    def move_keys(self, slot: int, source: int, target: int, pause: Callable[[], object] = lambda: None) -> None:
        """Move one key after the other, with a pause before each."""
        while keys := self.servers[source].command("CLUSTER", "GETKEYSINSLOT", str(slot), "100").split(b"\r\n")[2::2]:
            for key in keys:
                pause()
                self.servers[source].command("MIGRATE", _HOST, str(self.ports[target]), key.decode(), "0", "5000")

    def end_move(self, slot: int, source: int, target: int) -> None:
        for node in (target, source, 3 - source - target):
            answer = self.servers[node].command("CLUSTER", "SETSLOT", str(slot), "NODE", self.names[target])
            assert answer.startswith(b"+OK"), answer
        self._owners[slot] = target

    def settle(self) -> None:
        """Wait until all nodes know the same of each other: a slot that is moved earlier than that may go back."""
        wait_until(lambda: len({self._view(node) for node in self.servers}) == 1)

    def _view(self, node: RedisServer) -> tuple[tuple[str, ...], ...]:
        """The nodes that it knows: name, its master's name, epoch, slots."""
        lines = node.command("CLUSTER", "NODES").decode().splitlines()[1:]
        return tuple(sorted((words[0], words[3], words[6], *words[8:]) for line in lines if (words := line.split())))
