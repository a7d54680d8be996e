"""Several Redis servers that belong together: a Cluster of three, and a primary with a replica and a Sentinel."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from support.redis_servers import RedisServer, need
from support.waiting import wait_until

SLOTS = 16_384
DOWN_AFTER = 500
"""Milliseconds after which the Sentinel takes a primary for dead that a test kills."""
NEVER_DOWN = 600_000
"""... and one that none does, however busy the machine is."""
NO_TILT = ("TILT-TRIGGER", 600_000, "TILT-PERIOD", 1_000)
"""By default a Sentinel that was held up for two seconds does nothing for half a minute."""


class RedisCluster:
    """Three nodes, each with a third of the slots."""

    def __init__(self, folder: Path) -> None:
        program = need("valkey")
        options = ["--save", "", "--appendonly", "no", "--cluster-enabled", "yes", "--cluster-node-timeout", "60000"]
        self.nodes = [RedisServer(program, _made(folder / f"node{n}"), arguments=options) for n in range(3)]

    @property
    def url(self) -> str:
        """URL of the whole."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> "RedisCluster":
        """Start all, and return when they are one."""
        bounds = [SLOTS * n // 3 for n in range(4)]
        for node, first, behind in zip(self.nodes, bounds, bounds[1:], strict=False):
            node.start()
            node.say("CLUSTER", "ADDSLOTSRANGE", first, behind - 1)
            node.say("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(lambda: all(self.is_whole(node) for node in self.nodes), "the Cluster is whole")
        return self

    def is_whole(self, node: RedisServer) -> bool:
        """Return whether *node* sees all slots and all nodes."""
        info = node.say("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info

    def move(self, queue: str) -> int:
        """Move the slot of *queue* to the next node, key by key, as an operator's tool does; return how many."""
        clients: list[Any] = [redis.Redis(port=node.port) for node in self.nodes]
        slot = int(clients[0].cluster("KEYSLOT", f"{{{queue}}}"))
        old = next(n for n, node in enumerate(self.nodes) if self._serves(node, slot))
        new = (old + 1) % len(self.nodes)
        ids = [str(client.cluster("MYID"), "ascii") for client in clients]
        clients[new].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[old])
        clients[old].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[new])
        moved, port = 0, self.nodes[new].port
        while keys := clients[old].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            clients[old].execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        for number in dict.fromkeys((new, old, *range(len(clients)))):
            clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[new])
        for client in clients:
            client.close()
        return moved

    def _serves(self, node: RedisServer, slot: int) -> bool:
        """Return whether *node* says of itself that it serves *slot*."""
        (mine,) = (line for line in node.say("CLUSTER", "NODES").splitlines() if b"myself" in line)
        ranges = [part.split(b"-") for part in mine.split()[8:] if not part.startswith(b"[")]
        return any(int(each[0]) <= slot <= int(each[-1]) for each in ranges)

    def stop(self) -> None:
        """End all."""
        for node in self.nodes:
            node.stop()


class RedisPair:
    """A primary, a replica, and a Sentinel that watches them.

    Args:
        folder: Where they keep their data.
        down_after: Milliseconds without an answer after which the Sentinel takes one for dead.
    """

    def __init__(self, folder: Path, *, down_after: int = DOWN_AFTER) -> None:
        program = need("valkey")
        self.first = RedisServer(program, _made(folder / "first"), arguments=["--save", ""])
        follows = ["--save", "", "--replicaof", "127.0.0.1", str(self.first.port)]
        self.second = RedisServer(program, _made(folder / "second"), arguments=follows)
        config = _made(folder / "sentinel") / "sentinel.conf"
        config.write_text(
            f"sentinel monitor jobs 127.0.0.1 {self.first.port} 1\n"
            f"sentinel down-after-milliseconds jobs {down_after}\n"
            "sentinel failover-timeout jobs 3000\n"
        )
        self.sentinel = RedisServer(program, config.parent, arguments=[str(config), "--sentinel"])

    @property
    def url(self) -> str:
        """URL of whichever is the primary."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/jobs/0"

    def start(self) -> "RedisPair":
        """Start all, and return when the replica follows and the Sentinel knows it."""
        for server in (self.first, self.second, self.sentinel):
            server.start()
        self.sentinel.say("SENTINEL", "DEBUG", *NO_TILT)
        wait_until(lambda: b"master_link_status:up" in self.second.say("INFO", "replication"), "the replica follows")
        wait_until(lambda: b"slaves=1" in self.sentinel.say("INFO", "sentinel"), "the Sentinel knows the replica")
        return self

    def is_failed_over(self) -> bool:
        """Return whether the replica has become the primary."""
        with suppress(ConnectionError):  # it drops connections while it changes its role
            return b"role:master" in self.second.say("INFO", "replication")
        return False

    def is_even(self) -> bool:
        """Return whether the replica has acknowledged all that the primary has written."""
        rows = self.first.say("INFO", "replication").splitlines()
        fields = dict(row.split(b":", 1) for row in rows if b":" in row)
        return b"offset=" + fields[b"master_repl_offset"] + b"," in fields.get(b"slave0", b"")

    def stop(self) -> None:
        """End all."""
        for server in (self.sentinel, self.second, self.first):
            server.stop()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
