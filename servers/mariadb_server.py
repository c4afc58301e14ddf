"""One MariaDB server that can be killed, frozen, promoted and made to replicate from another one.

It knows how MariaDB is set up and run. It does not know who follows whom for what (mariadb.py), nor how all this ends
with the owner's process (guard.py). Debian packages: mariadb-server-core, mariadb-client-core.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from servers import binaries, guard
from servers.server import HOST, START_SECONDS, ServerError, free_port

__all__ = ["ACCOUNT", "DATABASES", "MISSING", "MariaDBServer", "available"]

ACCOUNT: Final = {"user": "app", "password": "app-secret"}
DATABASES: Final = ("app", "other")
MISSING: Final = "MariaDB is not installed: apt-get install mariadb-server-core mariadb-client-core"
FOLDER: Final = "MARIADB_BINDIR"  # names a folder with the programs, before all others
_PLACES: Final = "/usr/sbin:/usr/local/sbin:/usr/libexec:/usr/local/bin"
_REPLICATION: Final = ("replica", "replica-secret")

# What a kill -9 must not lose, and little of everything else. No TLS (from 11.4 on on by itself): proxies read along.
SETTINGS: Final = """
bind-address=127.0.0.1
skip-name-resolve
performance-schema=OFF
innodb-flush-log-at-trx-commit=2
innodb-buffer-pool-size=16M
innodb-log-file-size=8M
key-buffer-size=64K
aria-pagecache-buffer-size=1M
max-connections=300
log-bin=binlog
binlog-format=ROW
sync-binlog=0
gtid-strict-mode=1
log-slave-updates=1
slave-net-timeout=5
local-infile=1
skip-log-warnings
skip-ssl
""".split()


def program(name: str) -> str | None:
    """Return where one of MariaDB's programs is."""
    places = os.pathsep.join(filter(None, (os.environ.get(FOLDER), os.environ.get("PATH"), _PLACES)))
    return shutil.which(name, path=places)


def available() -> bool:
    """Tell whether all that is needed is on this machine."""
    return all(map(program, ("mariadbd", "mariadb-install-db", "mariadb")))


class MariaDBServer:
    """One server in a folder of its own."""

    host = HOST

    def __init__(self, folder: Path, name: str, number: int) -> None:
        """Set nothing up yet: see create() and copy()."""
        self.name, self.number, self.port = name, number, free_port()
        self.data, self.log = folder / name, folder / f"{name}.log"
        self.socket, self._tmp = folder / f"{name}.sock", folder / f"{name}.tmp"
        self.source: MariaDBServer | None = None
        self._marker = f"{folder.name}/{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._ever_ready = False

    def __repr__(self) -> str:
        """Name the server and its address."""
        return f"<MariaDBServer {self.name} {self.host}:{self.port}>"

    # --- its life ------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Set up a new empty server, with the accounts of the app and of a replica."""
        plain = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        self._folders()
        self._run("mariadb-install-db", "--no-defaults", *plain, f"--datadir={self.data}", f"--tmpdir={self._tmp}")

    def copy(self, source: "MariaDBServer") -> None:
        """Take the files of another server, which is stopped meanwhile."""
        self.kill()
        running = source.alive
        source.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(source.data, self.data)
        self._folders()
        for path in (self.data, *self.data.rglob("*")):
            binaries.own(path)
        if running:
            source.start()

    def _folders(self) -> None:
        for folder in (self.data, self._tmp):
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
        server = program("mariadbd")
        if server is None:
            raise ServerError(MISSING)
        own = {"datadir": self.data, "socket": self.socket, "tmpdir": self._tmp, "port": self.port}
        own |= {"server-id": self.number, "pid-file": f"{self.data}.pid", "read-only": int(self.source is not None)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [server, "--no-defaults", *SETTINGS_AS_OPTIONS, *(f"--{name}={value}" for name, value in own.items())],
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
        """Tell whether the server accepts connections."""
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

    # --- its role ------------------------------------------------------------------------------------------------

    @property
    def follows(self) -> "MariaDBServer | None":
        """The server that this one is a replica of, running or not."""
        return self.source

    def follow(self, source: "MariaDBServer") -> None:
        """Be a replica of the source from now on, from where its own files are."""
        self.source = source
        user, password = _REPLICATION
        where = f"MASTER_HOST='{source.host}', MASTER_PORT={source.port}, MASTER_USER='{user}'"
        quick = "MASTER_CONNECT_RETRY=1, MASTER_SSL=0, MASTER_USE_GTID=slave_pos"
        self.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=1", "")
        self.sql("SET GLOBAL gtid_slave_pos=@@gtid_binlog_pos", "")
        self.sql(f"CHANGE MASTER TO {where}, MASTER_PASSWORD='{password}', {quick}; START SLAVE", "")

    def promote(self) -> None:
        """Make this replica a primary."""
        self.source = None
        self.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0", "")

    def writable(self) -> bool:
        """Tell whether the server runs as a primary."""
        return self.alive and self.sql("SELECT @@global.read_only", "") == [("0",)]

    def position(self) -> str | None:
        """Return what it has, by its GTIDs."""
        return self.sql("SELECT @@gtid_current_pos", "")[0][0]

    # --- asking it -----------------------------------------------------------------------------------------------

    def sql(self, text: str, database: str = "app") -> list[tuple[str | None, ...]]:
        """Run statements as administrator; return their rows. A NULL and the text NULL look the same here."""
        client = program("mariadb")
        if client is None:
            raise ServerError(MISSING)
        quiet = ("--no-defaults", "--batch", "--raw", "--skip-ssl", "--skip-column-names", "--connect-timeout=5")
        command = [client, *quiet, "-uroot", f"--socket={self.socket}", *filter(None, [database]), "-e", text]
        ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
        if ended.returncode:
            raise ServerError(ended.stderr.decode(errors="replace").strip())
        rows = ended.stdout.decode(errors="replace").splitlines()
        return [tuple(None if cell == "NULL" else cell for cell in row.split("\t")) for row in rows]

    def set_up(self) -> None:
        """Make the databases, and the accounts of the app and of a replica."""
        user, password = _REPLICATION
        texts = [f"CREATE DATABASE {name}" for name in DATABASES]
        texts += [f"CREATE USER app@'%' IDENTIFIED BY '{ACCOUNT['password']}'"]
        texts += [f"GRANT ALL ON {name}.* TO app@'%'" for name in DATABASES]
        texts += [f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'", f"GRANT REPLICATION SLAVE ON *.* TO {user}@'%'"]
        self.sql("; ".join(texts), "")

    def _run(self, name: str, *arguments: str) -> None:
        found = program(name)
        if found is None:
            raise ServerError(MISSING)
        where = {"cwd": self.data.parent, **binaries.identity()}
        ended = subprocess.run([found, *arguments], capture_output=True, timeout=60, check=False, **where)
        if ended.returncode:
            raise ServerError(f"{name} failed: {ended.stdout.decode(errors='replace')[-500:]}")


SETTINGS_AS_OPTIONS: Final = tuple(f"--{setting}" for setting in SETTINGS)
