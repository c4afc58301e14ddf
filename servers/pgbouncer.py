"""A real PgBouncer in front of a server: a pooler that shares few server sessions among many clients.

It knows how PgBouncer is configured and run. It does not know how a server is run (server.py), nor how all this ends
with the owner's process (guard.py).
"""

import shutil
import subprocess
from types import TracebackType
from typing import Literal, Protocol, Self

from psycopg import pq

from servers import binaries, guard
from servers.server import APP, HOST, START_SECONDS, ServerError, conninfo, free_port

PoolMode = Literal["session", "transaction", "statement"]

# The whole pool is what a test asked for: no reserve, and no client that waits two minutes for a busy session.
# Startup parameters that PgBouncer does not know end a connection, unless they are named here; then they are dropped.
SETTINGS = {
    "listen_addr": HOST,
    "unix_socket_dir": "",
    "auth_type": "trust",
    "auth_file": "users.txt",
    "admin_users": APP["user"],
    "ignore_startup_parameters": "extra_float_digits, options",
    "max_client_conn": 200,
    "reserve_pool_size": 0,
    "query_wait_timeout": 10,
}


def path() -> str | None:
    """Return where PgBouncer is; Debian puts it into a folder that only the administrator searches."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def available() -> bool:
    """Return True if PgBouncer is on this machine."""
    return path() is not None


class Target(Protocol):
    """A server, or a proxy before one."""

    @property
    def host(self) -> str:
        """Where it is."""

    @property
    def port(self) -> int:
        """Where it listens."""


class PgBouncer:
    """A pooler on a port of its own in front of a running server, or of a proxy before one."""

    host = HOST

    def __init__(
        self,
        target: Target,
        pool_mode: PoolMode = "transaction",
        default_pool_size: int = 1,
        **settings: object,
    ) -> None:
        """Start nothing yet; `settings` are more of PgBouncer's own, by name."""
        self.target, self.port = target, free_port()
        self.settings = {**SETTINGS, "pool_mode": pool_mode, "default_pool_size": default_pool_size, **settings}
        self._folder: guard.Folder | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the pooler."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop it and remove its files."""
        self.close()

    def __repr__(self) -> str:
        """Name the pooler and its address."""
        return f"<PgBouncer {self.settings['pool_mode']} {self.host}:{self.port}>"

    def start(self) -> None:
        """Start the pooler and wait until it answers."""
        program = _found()
        self._folder = guard.Folder("pgbouncer-")
        self._files = self._folder.path
        binaries.own(self._files)
        try:
            # The whole path: by it the guard knows which processes belong to the folder.
            self._start([program, str(self._files / "pgbouncer.ini")])
        except BaseException:
            self.close()
            raise

    def _start(self, command: list[str]) -> None:
        self._write("users.txt", f'"{APP["user"]}" "{APP["password"]}"\n')
        while not self._started(command):
            # The port was free a moment ago, so another program may have taken it.
            if "in use" not in self.last_words():
                raise ServerError(f"{self!r} does not start: {self.last_words()}")
            self.port = free_port()

    def _started(self, command: list[str]) -> bool:
        self._write("pgbouncer.ini", self._configuration())
        with (self._files / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._files,
                env=binaries.environment(),
                start_new_session=True,
                **binaries.identity(),
            )
        return guard.wait_until(lambda: self._ready() or not self.alive, START_SECONDS) and self.alive

    def _write(self, name: str, text: str) -> None:
        (self._files / name).write_text(text)
        binaries.own(self._files / name)

    def _configuration(self) -> str:
        target = f"* = host={self.target.host} port={self.target.port}"
        values = {**self.settings, "listen_port": self.port}
        lines = (f"{name} = {value}" for name, value in values.items())
        return "\n".join(["[databases]", target, "[pgbouncer]", *lines, ""])

    def _ready(self) -> bool:
        """Return True if the pooler answers, and its own log says so: asking the port could reach another program."""
        return "process up" in (self._files / "log").read_text(errors="replace") and self.answers()

    def last_words(self) -> str:
        """Return the end of the log."""
        return " / ".join((self._files / "log").read_text(errors="replace").splitlines()[-5:])

    def refusals(self) -> int:
        """Return how many clients it has sent away because its server is down."""
        return (self._files / "log").read_text(errors="replace").count("server_login_retry")

    @property
    def alive(self) -> bool:
        """Whether the pooler's process exists."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Return True if the pooler accepts connections to itself, whatever the server does."""
        return pq.PGconn.ping(self.dsn(dbname="pgbouncer", connect_timeout=5).encode()) == pq.Ping.OK

    def close(self) -> None:
        """Stop the pooler and remove its files."""
        if self.alive and self._process:
            self._process.kill()  # it has nothing to lose, and its other signals differ between versions
            self._process.wait()
        if self._folder:
            self._folder.close()

    def dsn(self, **extra: object) -> str:
        """Return the application's connection string through the pooler; its console is the database pgbouncer."""
        return conninfo(**{"host": self.host, "port": self.port, **APP, **extra})


def _found() -> str:
    if found := path():
        return found
    raise ServerError("PgBouncer is not on this machine. Install its package: apt, dnf and brew call it pgbouncer.")
