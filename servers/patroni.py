"""A real Patroni cluster: three PostgreSQL servers, etcd, and HAProxy, which leads to the primary of the moment.

It knows how these programs are configured, asked, killed and frozen. Who becomes the primary is Patroni's decision.
Debian packages: patroni, etcd-server, haproxy, postgresql.
"""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from servers import binaries, guard
from servers.server import APP, HOST, Server, ServerError, free_port

__all__ = ["MISSING", "Node", "PatroniCluster", "available"]

MISSING: Final = "Patroni, etcd, HAProxy or PostgreSQL is not installed: apt-get install patroni etcd-server haproxy"
SECONDS: Final = 90  # for what takes Patroni 20 s or less on an idle machine
TTL: Final = 20  # seconds without a sign of life after which a leader is replaced; Patroni takes no less
NODES: Final = ("one", "two", "three")
_PLACES: Final = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"

PARAMETERS: Final = {
    "fsync": "off",
    "synchronous_commit": "on",
    "max_connections": 200,
    "max_prepared_transactions": 20,
    "wal_keep_size": "256MB",
    "wal_retrieve_retry_interval": "100ms",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "dynamic_shared_memory_type": "mmap",
}
DYNAMIC: Final = {
    "ttl": TTL,
    "loop_wait": 1,
    "retry_timeout": 3,
    "synchronous_mode": True,  # a commit that was answered is on the next primary
    "synchronous_mode_strict": True,
    "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": PARAMETERS},
}
ACCESS: Final = [f"host {where} 127.0.0.0/8 {how}" for where, how in (
    ("replication postgres", "trust"), ("all postgres", "trust"), ("all all", "scram-sha-256"))]  # fmt: skip

# What Patroni's documentation gives, with shorter intervals: a session whose server is not the primary is ended.
HAPROXY: Final = """
global
    maxconn 500
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 1s
listen primary
    bind {host}:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def program(name: str) -> str | None:
    """Return where a program is; some are in folders that only the administrator searches."""
    return shutil.which(name, path=_PLACES)


def postgresql() -> Path | None:
    """Return the newest PostgreSQL of the machine: Patroni's package knows its version, not that of a wheel."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "pg_rewind").is_file()]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def available() -> bool:
    """Return True if all that is needed is on this machine."""
    return all(map(program, ("patroni", "etcd", "haproxy"))) and postgresql() is not None


class Daemon:
    """A program that runs in the cluster's folder, as the user who runs servers, and ends with it."""

    def __init__(self, folder: Path, name: str, *command: str) -> None:
        """Start nothing yet."""
        self.folder, self.name, self.command = folder, name, command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program."""
        environment = {name: value for name, value in binaries.environment().items() if not name.startswith("PYTHON")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
                **binaries.identity(),
            )

    def kill(self) -> None:
        """Kill the program with SIGKILL and wait until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()


class Node(Server):
    """One Patroni with its PostgreSQL. `alive` is whether Patroni runs."""

    def __init__(self, folder: Path, name: str, address: str, port: int, etcd: int) -> None:
        """Set nothing up yet."""
        super().__init__(folder, name)
        self.host, self.port = address, port
        self.rest, self._folder = free_port(), folder
        self._configuration = folder / f"patroni-{name}.json"
        self._patroni = Daemon(folder, f"patroni-{name}", str(program("patroni")), str(self._configuration))
        self._configuration.write_text(json.dumps(self._settings(etcd)))  # JSON is YAML

    def _settings(self, etcd: int) -> dict[str, Any]:
        rest, listen = f"{self.host}:{self.rest}", f"{self.host}:{self.port}"
        account = {"username": "postgres"}
        return {
            "scope": self._folder.name,  # the name of all its processes, by which the guard knows them
            "name": self.name,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd3": {"host": f"{HOST}:{etcd}"},
            "bootstrap": {"dcs": DYNAMIC, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"]},
            "postgresql": {
                "listen": listen,
                "connect_address": listen,
                "data_dir": str(self.data),
                "bin_dir": str(postgresql()),
                "pgpass": str(self._folder / f"pass-{self.name}"),
                "authentication": {"superuser": account, "replication": account, "rewind": account},
                "pg_hba": ACCESS,
                "parameters": {"unix_socket_directories": ""},
            },
        }

    @property
    def alive(self) -> bool:
        """Whether Patroni's process exists."""
        return self._patroni.alive

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL; return at once."""
        if not self.alive:
            self._patroni.start()

    def _processes(self) -> list[int]:
        """Return PostgreSQL's processes, the first one first."""
        first = guard.marked(self._marker)
        return [*first, *(child for pid in first for child in _children(pid))]

    def kill(self) -> None:
        """Kill Patroni and PostgreSQL with SIGKILL, as a machine that loses its power."""
        self._patroni.kill()
        self.kill_postgresql()

    def kill_postgresql(self) -> None:
        """Kill PostgreSQL's processes only. Patroni starts it again, as the leader that it was."""
        self.freeze()  # first, so that no more children come
        guard.send(signal.SIGKILL, *reversed(self._processes()))
        if not guard.wait_until(lambda: not self._processes(), SECONDS):
            raise ServerError(f"{self!r} survived SIGKILL: {self._processes()}")

    def freeze(self) -> None:
        """Stop the clocks of PostgreSQL's processes: connections stay, nothing answers. Patroni runs on."""
        guard.send(signal.SIGSTOP, *guard.marked(self._marker))
        guard.send(signal.SIGSTOP, *self._processes())

    def thaw(self) -> None:
        """Let a frozen server go on."""
        guard.send(signal.SIGCONT, *self._processes())

    def last_words(self) -> str:
        """Return the end of Patroni's log."""
        return " / ".join(self._patroni.log.read_text(errors="replace").splitlines()[-5:])

    def ask(self, path: str, **body: str) -> tuple[int, Any]:
        """Ask Patroni's REST API; return the status and the answer. Status 0: nobody answers."""
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"http://{self.host}:{self.rest}{path}", data)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""


def _children(pid: int) -> list[int]:
    with suppress(OSError):  # it has just ended
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return []


class PatroniCluster:
    """Three nodes of Patroni, etcd, and HAProxy."""

    def __enter__(self) -> Self:
        """Start all, and wait until both standbys stream, one of them synchronously.

        Raises:
            ServerError: a program is not installed, or the cluster does not come to be.
        """
        if not available():
            raise ServerError(MISSING)
        self._guard = guard.Folder("pt-")
        folder = self._guard.path
        binaries.own(folder)
        client, peer, self.port, self.host = free_port(), free_port(), free_port(), HOST
        self.etcd = Daemon(folder, "etcd", str(program("etcd")), *_etcd_options(folder, client, peer))
        at = free_port()  # the same for all, each has an address of its own: a name can lead to any of them
        self.nodes = [Node(folder, name, f"127.0.0.{n}", at, client) for n, name in enumerate(NODES, 2)]
        (folder / "haproxy.cfg").write_text(self._haproxy_configuration())
        self.haproxy = Daemon(folder, "haproxy", str(program("haproxy")), "-db", "-f", str(folder / "haproxy.cfg"))
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    def _start(self) -> None:
        self.etcd.start()
        self.haproxy.start()
        for node in self.nodes:
            node.start()
        self.wait(lambda: self.leader() is not None)
        self.primary.sql(f"CREATE ROLE app LOGIN PASSWORD '{APP['password']}'")
        self.primary.sql("CREATE DATABASE app OWNER app")
        self.restore()

    def _haproxy_configuration(self) -> str:
        servers = (f"    server {n.name} {n.host}:{n.port} check port {n.rest}" for n in self.nodes)
        return HAPROXY.format(host=HOST, port=self.port, servers="\n".join(servers))

    def close(self) -> None:
        """Stop everything and remove the files."""
        for node in self.nodes:  # Patroni before its PostgreSQL, which it would start again
            node.kill()
        for daemon in (self.haproxy, self.etcd):
            daemon.kill()
        self._guard.close()

    def wait(self, condition: Any) -> None:
        """Wait until a condition holds."""
        if not guard.wait_until(condition, SECONDS):
            raise ServerError(" / ".join(f"{node!r}: {node.last_words()}" for node in self.nodes))

    def hosts(self) -> str:
        """Return "host:port,..." of all nodes."""
        return ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def members(self) -> dict[str, str]:
        """Return the role of each member that runs, by its name."""
        for node in self.nodes:
            status, answer = node.ask("/cluster")
            if status == 200:
                running = ("running", "streaming")
                return {m["name"]: m["role"] for m in json.loads(answer)["members"] if m["state"] in running}
        return {}

    def leader(self) -> Node | None:
        """Return the node that takes writes, and says so."""
        return next((node for node in self.nodes if node.alive and node.ask("/primary")[0] == 200), None)

    @property
    def primary(self) -> Node:
        """The node that takes writes."""
        if leader := self.leader():
            return leader
        raise ServerError("no node is the primary")

    def switchover(self) -> None:
        """Have the synchronous standby become the primary, as planned."""
        leader = self.primary
        candidate = next(name for name, role in self.members().items() if role == "sync_standby")
        status, answer = leader.ask("/switchover", leader=leader.name, candidate=candidate)
        if status != 200:
            raise ServerError(f"Patroni refuses the switchover: {answer!r}")
        self.wait_for_another(leader)

    def crash(self) -> None:
        """Kill the node of the primary and wait for another primary."""
        leader = self.primary
        leader.kill()
        self.wait_for_another(leader)

    def crash_postgresql(self) -> None:
        """Kill the primary's PostgreSQL only, and wait until there is a primary, the same one or another."""
        self.primary.kill_postgresql()
        self.wait(lambda: self.leader() is not None)

    @contextmanager
    def frozen(self) -> Iterator[Node]:
        """Freeze the primary's PostgreSQL and wait for another primary; kill the frozen node in the end.

        It is not thawed: its Patroni (3.0.2) would take the leader's lock back from the one that has it. A watchdog
        resets such a machine before its lock ends.
        """
        leader = self.primary
        leader.freeze()
        try:
            self.wait_for_another(leader)
            yield leader
        finally:
            leader.kill()

    def wait_for_another(self, leader: Node) -> None:
        """Wait until another node is the primary."""
        others = [node for node in self.nodes if node is not leader]
        self.wait(lambda: any(node.ask("/primary")[0] == 200 for node in others))

    def restore(self) -> None:
        """Start what does not run, and wait until both standbys stream, one of them synchronously."""
        for node in self.nodes:
            node.start()
        self.wait(lambda: sorted(self.members().values()) == ["leader", "replica", "sync_standby"])


def _etcd_options(folder: Path, client: int, peer: int) -> Iterator[str]:
    urls = {"client": f"http://{HOST}:{client}", "peer": f"http://{HOST}:{peer}"}
    yield f"--data-dir={folder / 'etcd'}"
    for kind, listening, advertised in (
        ("client", "listen-client-urls", "advertise-client-urls"),
        ("peer", "listen-peer-urls", "initial-advertise-peer-urls"),
    ):
        yield f"--{listening}={urls[kind]}"
        yield f"--{advertised}={urls[kind]}"
    yield f"--initial-cluster=default={urls['peer']}"
    yield "--unsafe-no-fsync"
