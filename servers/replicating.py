"""One MariaDB or MySQL server that can be killed, frozen, promoted and made to replicate from another one.

It knows what both databases have in common: how a server is run and asked. What differs is in mariadb_server.py and
mysql_server.py. It does not know who follows whom for what (pair.py), nor how all this ends with the owner's process
(guard.py).
"""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final, Self

from servers import binaries, guard, text_protocol
from servers.server import HOST, START_SECONDS, ServerError, free_port

ACCOUNT: Final = {"user": "app", "password": "app-secret"}
DATABASES: Final = ("app", "other")
REPLICATION: Final = ("replica", "replica-secret")

# What a kill -9 must not lose, and little of everything else.
SETTINGS: Final = """
bind-address=127.0.0.1
skip-name-resolve
performance-schema=OFF
innodb-flush-log-at-trx-commit=2
innodb-buffer-pool-size=16M
key-buffer-size=64K
max-connections=300
log-bin=binlog
sync-binlog=0
local-infile=1
""".split()


class ReplicatingServer:
    """One server in a folder of its own."""

    host = HOST
    settings: tuple[str, ...] = ()  # more options of the server's program
    replica: str  # the word that its SQL has for one

    def __init__(self, folder: Path, name: str, number: int) -> None:
        """Start nothing: create() or copy() sets the server up."""
        self.name, self.number, self.port = name, number, free_port()
        self.data, self.log = folder / name, folder / f"{name}.log"
        self.socket, self.tmp = folder / f"{name}.sock", folder / f"{name}.tmp"
        self.source: Self | None = None
        self._marker = f"{folder.name}/{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._ever_ready = False

    def __repr__(self) -> str:
        """Name the server and its address."""
        return f"<{type(self).__name__} {self.name} {self.host}:{self.port}>"

    # --- what each database does in its own way ---------------------------------------------------------------------

    @classmethod
    def require(cls) -> None:
        """Check that the database is on this machine.

        Raises:
            ServerError: it is not; the error says how to get it.
        """
        raise NotImplementedError

    def create(self) -> None:
        """Set up a new empty server."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        """Return the program of the server and the options that it always has, whatever server it is."""
        raise NotImplementedError

    def _client(self) -> list[str]:
        """Return the client program and its options but for the account, the socket and the text."""
        raise NotImplementedError

    def follow(self, source: Self) -> None:
        """Be a replica of the source from now on, from where its own files are."""
        raise NotImplementedError

    def promote(self) -> None:
        """Make this replica a primary."""
        raise NotImplementedError

    def position(self) -> str | None:
        """Return what it has, by its GTIDs."""
        raise NotImplementedError

    def synchronise(self, on: bool) -> None:
        """Have commits wait for the replica from now on, or no longer: called on both, as primary and as replica."""
        raise NotImplementedError

    def has_follower(self) -> bool:
        """Return True if commits wait for a replica that confirms what it gets."""
        raise NotImplementedError

    def remember(self, user: str, password: str) -> None:
        """Let an account log in without TLS, also after the next starts; MariaDB needs nothing for it."""

    def forget(self, user: str, changed: bool = False) -> None:
        """Do no longer so; `changed`: the account is another one by now, and would have to be remembered anew."""

    def apply_received(self) -> None:
        """Apply all that the source has sent, and take no more from it: it may be gone."""
        self.sql(f"STOP {self.replica} IO_THREAD", "")
        done = "has read all relay log"
        show = f"SHOW {self.replica} STATUS"
        if not guard.wait_until(lambda: any(done in (cell or "") for cell in self.sql(show, "")[0]), START_SECONDS):
            raise ServerError(f"{self!r} does not apply what it has got: {self.last_words()}")

    # --- its life ---------------------------------------------------------------------------------------------------

    def copy(self, source: Self) -> None:
        """Take the files of another server, which is down meanwhile."""
        self.kill()
        running = source.alive
        source.kill()  # a planned stop of MySQL waits for replicas that are gone
        self.take(source.data)
        if running:
            source.start()

    def take(self, data: Path) -> None:
        """Take the files of a server that does not run."""
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(data, self.data)
        self.make_folders()
        for path in (self.data, *self.data.rglob("*")):
            binaries.own(path)

    def make_folders(self) -> None:
        """Make the folders of its data and its temporary files."""
        for folder in (self.data, self.tmp):
            folder.mkdir(exist_ok=True)
            binaries.own(folder)

    def start(self) -> None:
        """Start the server in the role it had, and wait until it answers; does nothing when it runs."""
        if self.alive:
            return
        while not self._started():
            if self.alive or self._ever_ready:
                raise ServerError(f"{self!r} does not start: {self.last_words()}")
            self.port = free_port()  # it was free a moment ago
        self._ever_ready = True

    def _started(self) -> bool:
        own = {"datadir": self.data, "socket": self.socket, "tmpdir": self.tmp, "port": self.port}
        own |= {"server-id": self.number, "pid-file": f"{self.data}.pid", "read-only": int(self.source is not None)}
        options = [*SETTINGS, *self.settings, *(f"{name}={value}" for name, value in own.items())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command(), *(f"--{option}" for option in options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env=binaries.environment(),
                start_new_session=True,
                **binaries.identity(),
            )
        return guard.wait_until(lambda: self.answers() or not self.alive, START_SECONDS) and self.alive

    def last_words(self) -> str:
        """Return the end of the log."""
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    @property
    def _pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether the server's process exists, even frozen."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Return True if the server accepts connections."""
        try:
            return self.sql("SELECT 1", "") == [("1",)]
        except (ServerError, subprocess.TimeoutExpired):
            return False

    def kill(self) -> None:
        """Kill the server with SIGKILL and wait until it is gone."""
        if self.alive:
            guard.send(signal.SIGKILL, self._pid)
        if self._process:
            self._process.wait()

    def stop(self) -> None:
        """Stop the server as planned; kill it when that takes too long."""
        if self.alive:
            self.thaw()
            guard.send(signal.SIGTERM, self._pid)
            guard.wait_until(lambda: not self.alive, 20)
        self.kill()

    def freeze(self) -> None:
        """Stop the server's clock: connections stay, nothing answers."""
        guard.send(signal.SIGSTOP, *([self._pid] if self.alive else []))

    def thaw(self) -> None:
        """Let a frozen server go on."""
        guard.send(signal.SIGCONT, *([self._pid] if self.alive else []))

    def wake(self) -> None:
        """Make the server answer or be dead, nothing in between."""
        self.thaw()
        if self.alive and not guard.wait_until(self.answers, 3):
            self.kill()

    # --- its role ---------------------------------------------------------------------------------------------------

    @property
    def follows(self) -> Self | None:
        """The server that this one is a replica of, running or not."""
        return self.source

    def demote(self) -> None:
        """Refuse writes of the app from now on."""
        self.sql("SET GLOBAL read_only=1", "")

    def writable(self) -> bool:
        """Return True if the server runs as a primary."""
        return self.alive and self.sql("SELECT @@global.read_only", "") == [("0",)]

    # --- asking it --------------------------------------------------------------------------------------------------

    def sql(self, text: str, database: str = DATABASES[0]) -> list[tuple[str | None, ...]]:
        """Run statements as administrator; return their rows.

        Raises:
            ServerError: one of them failed, or the server does not answer.
        """
        if "DELIMITER" in text:  # which only a client program knows
            return self.ask("-uroot", f"--socket={self.socket}", *filter(None, [database]), "-e", text)
        try:
            return text_protocol.query(self.socket, "root", database, text)
        except (text_protocol.Refused, OSError) as error:
            raise ServerError(str(error)) from error

    def ask(self, *arguments: str) -> list[tuple[str | None, ...]]:
        """Run the client program with these arguments; return the rows that it prints.

        Raises:
            ServerError: the program failed; with what it printed.
        """
        quiet = ("--batch", "--raw", "--skip-column-names", "--connect-timeout=5")
        command = [*self._client(), *quiet, *arguments]
        ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
        if ended.returncode:
            raise ServerError(ended.stderr.decode(errors="replace").strip())
        rows = ended.stdout.decode(errors="replace").splitlines()
        return [tuple(None if cell == "NULL" else cell for cell in row.split("\t")) for row in rows]

    def set_up(self) -> None:
        """Make the databases, and the accounts of the app and of a replica."""
        user, password = REPLICATION
        texts = [f"CREATE DATABASE {name}" for name in DATABASES]
        texts += [f"CREATE USER app@'%' IDENTIFIED BY '{ACCOUNT['password']}'"]
        texts += [f"GRANT ALL ON {name}.* TO app@'%'" for name in DATABASES]
        texts += [f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'", f"GRANT REPLICATION SLAVE ON *.* TO {user}@'%'"]
        self.sql("; ".join(texts), "")

    def run(self, command: list[str]) -> str:
        """Run a program that sets something up, as the user that runs the server; return what it prints.

        Raises:
            ServerError: the program failed; with the end of what it printed.
        """
        where = {"cwd": self.data.parent, "env": binaries.environment(), **binaries.identity()}
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False, **where
        )
        printed: str = ended.stdout.decode(errors="replace")
        if ended.returncode:
            raise ServerError(f"{Path(command[0]).name} failed: {printed[-500:]}")
        return printed
