"""One PostgreSQL server that can be killed, frozen, promoted and made to follow another one.

It knows how PostgreSQL is set up and what its processes do on which signal. It does not know where the programs are
(binaries.py), how all this ends with the owner's process (guard.py), nor who follows whom for what (postgresql.py).
"""

import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from psycopg import pq

from servers import binaries, guard

HOST = "127.0.0.1"
APP = {"user": "app", "password": "app-secret", "dbname": "app"}
PORTS = range(20000, 32000)  # below the range from which clients' own ports are taken
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
START_SECONDS = 30

# Without fsync all is faster, and still survives SIGKILL (the kernel keeps what was written). wal_log_hints and
# full_page_writes are needed by pg_rewind, and a short wal_retrieve_retry_interval spares pauses of 5 s.
# Dynamic shared memory in files goes with the folder; no killed server leaves it in /dev/shm.
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
max_prepared_transactions = 20
max_wal_senders = 10
hot_standby = on
fsync = off
synchronous_commit = local
wal_log_hints = on
wal_keep_size = 256MB
wal_retrieve_retry_interval = 100ms
wal_sender_timeout = 10s
wal_receiver_status_interval = 1s
password_encryption = 'scram-sha-256'
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] %u '
"""

ACCESS = """
host replication postgres 127.0.0.1/32 trust
host all         postgres 127.0.0.1/32 trust
host all         all      127.0.0.1/32 scram-sha-256
"""


class ServerError(RuntimeError):
    """A server, or one of PostgreSQL's programs, did not do what it was told."""


def conninfo(**values: object) -> str:
    """Return a connection string of these values, quoted."""
    quoted = {name: str(value).replace("\\", r"\\").replace("'", r"\'") for name, value in values.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if _free(port))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:  # taken
            return False
        return True


class Server:
    """One PostgreSQL server in a folder of its own."""

    host = HOST

    def __init__(self, folder: Path, name: str) -> None:
        """Start nothing: create() or copy() sets the server up."""
        self.name, self.data, self.log = name, folder / name, folder / f"{name}.log"
        self.port = free_port()
        self.source: Server | None = None
        self._marker = f"{folder.name}/{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._ever_ready = False

    def __repr__(self) -> str:
        """Name the server and its address."""
        return f"<Server {self.name} {self.host}:{self.port}>"

    def create(self) -> None:
        """Set up a new empty server."""
        self._run("initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
        (self.data / "pg_hba.conf").write_text(ACCESS)

    def copy(self, source: "Server") -> None:
        """Become a standby of the source by a new base backup."""
        self.kill()
        guard.forget(self.data)
        if self.data.exists():
            shutil.rmtree(self.data)
        self._run("pg_basebackup", "-D", self.data, "-d", source._superuser(), "-c", "fast", "--no-sync")
        self.follow(source)

    def rewind(self, source: "Server") -> None:
        """Become a standby of the source by undoing what the source doesn't have."""
        self.stop()
        source.sql("CHECKPOINT")  # before PostgreSQL 16 a new timeline shows only after one
        # A folder that is marked as a standby's can't be recovered, which pg_rewind does first after a crash.
        (self.data / "standby.signal").unlink(missing_ok=True)
        self._run("pg_rewind", "-D", self.data, f"--source-server={source._superuser(dbname='postgres')}", "--no-sync")
        self.follow(source)

    def follow(self, source: "Server") -> None:
        """Be a standby of the source from the next start on."""
        self.source = source
        (self.data / "standby.signal").touch()
        binaries.own(self.data / "standby.signal")

    @property
    def follows(self) -> "Server | None":
        """The server that this one is a standby of, running or not."""
        return self.source if (self.data / "standby.signal").exists() else None

    def start(self) -> None:
        """Start the server in the role it had, and wait until it answers; does nothing when it runs."""
        if self.alive:
            return
        self.kill()  # children that outlived it: with them it would refuse to start
        while not self._started():
            # The port was free a moment ago. Only before its first success may a server move to another one.
            if self.alive or self._ever_ready or _free(self.port):
                raise ServerError(f"{self!r} does not start: {self.last_words()}")
            self.port = free_port()
        self._ever_ready = True

    def _started(self) -> bool:
        source = f"primary_conninfo={self.source._superuser(application_name=self.name)}" if self.source else ""
        options = [f"port={self.port}", f"cluster_name={self._marker}", *filter(None, [source])]
        command = [
            str(binaries.folder() / "postgres"),
            "-D",
            str(self.data),
            *(part for o in options for part in ("-c", o)),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env=binaries.environment(),
                start_new_session=True,
                **binaries.identity(),
            )
        return guard.wait_until(lambda: self._ready() or not self.alive, START_SECONDS) and self.alive

    def _ready(self) -> bool:
        """Return True if the server's own file says so: asking the port could reach another server."""
        path = self.data / "postmaster.pid"
        lines = path.read_text().splitlines() if path.exists() else []
        return len(lines) > 7 and lines[0] == str(self._pid) and lines[7].strip() == "ready"

    def last_words(self) -> str:
        """Return the end of the log."""
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    @property
    def _pid(self) -> int:
        return self._process.pid if self._process else 0

    def answers(self) -> bool:
        """Return True if the server accepts connections."""
        return pq.PGconn.ping(self._superuser(dbname="postgres").encode()) == pq.Ping.OK

    @property
    def alive(self) -> bool:
        """Whether the server's process exists, even frozen."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill the server and all its children with SIGKILL and wait until they are gone."""
        if self.alive:
            guard.send(signal.SIGKILL, self._pid)
        if not guard.kill(self._marker):
            raise ServerError(f"{self!r} survived SIGKILL: {guard.marked(self._marker)}")
        if self._process:
            self._process.wait()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server ("smart", "fast" or "immediate"); kill it when that takes too long."""
        if self.alive:
            self.thaw()
            guard.send(STOP_SIGNALS[mode], self._pid)
            guard.wait_until(lambda: not self.alive, 20)
        self.kill()

    def freeze(self) -> None:
        """Stop the clocks of all the server's processes: connections stay, nothing answers."""
        if self.alive:
            guard.send(signal.SIGSTOP, self._pid)  # first, so that no more children come
        guard.send(signal.SIGSTOP, *guard.marked(self._marker))

    def thaw(self) -> None:
        """Let a frozen server go on."""
        guard.send(signal.SIGCONT, *guard.marked(self._marker))

    def promote(self) -> None:
        """Make this standby a primary and wait until it takes writes."""
        if self.in_recovery():
            self.sql("SELECT pg_promote(false)")
        if not guard.wait_until(lambda: not self.in_recovery(), START_SECONDS):
            raise ServerError(f"{self!r} was not promoted: {self.last_words()}")

    def in_recovery(self) -> bool:
        """Return True if the server is a standby."""
        return self.sql("SELECT pg_is_in_recovery()") == [("t",)]

    def writable(self) -> bool:
        """Return True if the server runs as a primary."""
        return self.alive and not self.in_recovery()

    def dsn(self, **extra: object) -> str:
        """Return the application's connection string for this server."""
        return conninfo(**{"host": self.host, "port": self.port, **APP, **extra})

    def _superuser(self, **extra: object) -> str:
        plain = {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 5}
        return conninfo(host=self.host, port=self.port, user="postgres", **plain, **extra)

    def sql(self, text: str, database: str = "postgres") -> list[tuple[str | None, ...]]:
        """Run statements as superuser; return the rows of the last one."""
        # libpq itself, not psycopg.connect: the library under test instruments that.
        connection = pq.PGconn.connect(self._superuser(dbname=database, client_encoding="UTF8").encode())
        try:
            return _rows(connection, text)
        finally:
            connection.finish()

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(binaries.folder() / program), *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.data.parent,
            env=binaries.environment(),
            start_new_session=True,
            **binaries.identity(),
        )
        try:
            output = process.communicate()[0]
        except BaseException:  # interrupted: what the program started goes with it
            guard.kill_group(process.pid)
            process.wait()
            raise
        if process.returncode:
            raise ServerError(f"{program} failed: {output.decode(errors='replace')}")


def _rows(connection: pq.abc.PGconn, text: str) -> list[tuple[str | None, ...]]:
    if connection.status != pq.ConnStatus.OK:
        raise ServerError(connection.error_message.decode(errors="replace"))
    result = connection.exec_(text.encode())
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
        raise ServerError(result.error_message.decode(errors="replace"))
    columns = range(result.nfields)
    return [tuple(_text(result.get_value(row, column)) for column in columns) for row in range(result.ntuples)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
