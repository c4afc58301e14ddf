"""A PostgreSQL primary with a streaming standby, which can fail over and be repaired after whatever was done to them.

It knows the two roles and who takes which. It does not know how one server is run (server.py), nor what connects to
the servers.
"""

from types import TracebackType
from typing import Self

from servers import binaries, guard
from servers.server import APP, START_SECONDS, Server, ServerError, conninfo

__all__ = ["Cluster", "Server", "ServerError"]


class Cluster:
    """A primary and its streaming standby; `primary` and `standby` name the roles of the moment."""

    def __init__(self) -> None:
        """Start nothing yet: that is done by `with`, or start() and close()."""
        self._folder: guard.Folder | None = None

    def __enter__(self) -> Self:
        """Start both servers."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    def start(self) -> None:
        """Set up and start both servers, and wait until the standby streams."""
        self._folder = guard.Folder("pg-")
        binaries.own(self._folder.path)
        self.servers = Server(self._folder.path, "first"), Server(self._folder.path, "second")
        self.primary, self.standby = self.servers
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.primary.create()
        self.primary.start()
        self.primary.sql(f"CREATE ROLE app LOGIN PASSWORD '{APP['password']}'")
        self.primary.sql("CREATE DATABASE app OWNER app")
        self.standby.copy(self.primary)
        self.standby.start()
        self.wait_streaming()

    def close(self) -> None:
        """Stop both servers and remove their files."""
        if self._folder:
            self._folder.close()
            for server in self.servers:
                server.kill()  # dead by now; this takes note of it

    def hosts(self) -> str:
        """Return "host:port,host:port" in the order of the first start, whatever the roles are."""
        return ",".join(f"{server.host}:{server.port}" for server in self.servers)

    def dsn(self, **extra: object) -> str:
        """Return the application's connection string for both servers, in the order of the first start."""
        hosts, ports = zip(*((server.host, str(server.port)) for server in self.servers), strict=True)
        return conninfo(**{"host": ",".join(hosts), "port": ",".join(ports), **APP, **extra})

    def failover(self) -> None:
        """Kill the primary and promote the standby; they swap roles."""
        self.primary.kill()
        self.standby.promote()
        self._swap()

    def switchover(self) -> None:
        """Stop the primary as planned, promote the standby, and let the old primary follow it."""
        self.primary.stop()
        self.standby.promote()
        self._swap()
        self.rejoin()

    def _swap(self) -> None:
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """Bring the standby back, whatever it was or is, and wait until it streams from the primary."""
        self.standby.stop()
        if self.standby.follows is not self.primary:
            self._rewind()
        if not self._revived():
            self.standby.copy(self.primary)
            self.standby.start()
            self.wait_streaming()

    def _revived(self) -> bool:
        try:
            self.standby.start()
        except ServerError:  # its files don't fit the primary's history: a copy of them does
            return False
        return self._streams_within(5)

    def _rewind(self) -> None:
        try:
            self.standby.rewind(self.primary)
        except ServerError:  # the histories can't be joined any more: start from a copy
            self.standby.copy(self.primary)

    def restore(self) -> None:
        """Make this a primary with a streaming standby again, whatever was done to them."""
        for server in self.servers:
            _wake(server)
        if not self.primary.writable() and self.standby.writable():
            self._swap()
        self.primary.start()
        self.primary.promote()
        _reset(self.primary)
        if not self._followed():
            self.rejoin()
        _reset(self.standby)
        if not self._streams_within(3):
            self.rejoin()

    def _followed(self) -> bool:
        return self.standby.alive and self.standby.follows is self.primary and self.standby.in_recovery()

    def synchronise(self, on: bool = True) -> None:
        """Have commits of the primary wait until the standby has them, until the next failover, or no longer."""
        names = "'*'" if on else "''"
        self.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = {names}")
        self.primary.sql("ALTER SYSTEM " + ("SET synchronous_commit = 'on'" if on else "RESET synchronous_commit"))
        self.primary.sql("SELECT pg_reload_conf()")
        state = [("sync",)] if on else [("async",)]
        if not guard.wait_until(
            lambda: self.primary.sql("SELECT sync_state FROM pg_stat_replication") == state, START_SECONDS
        ):
            raise ServerError(f"{self.standby!r} does not confirm what it gets: {self.standby.last_words()}")
        self.primary.sql("CHECKPOINT")  # by the process that tells the sessions to wait: it has read the settings then

    def streaming(self) -> bool:
        """Return True if the standby gets what the primary writes, up to now."""
        state = "SELECT state, replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication WHERE application_name = "
        return ("streaming", "t") in self.primary.sql(f"{state}'{self.standby.name}'")

    def wait_streaming(self) -> None:
        """Wait until the standby has all that the primary wrote."""
        if not self._streams_within(START_SECONDS):
            raise ServerError(f"{self.standby!r} does not follow {self.primary!r}: {self.standby.last_words()}")

    def _streams_within(self, seconds: float) -> bool:
        return guard.wait_until(self.streaming, seconds)


def _wake(server: Server) -> None:
    """Make a server answer or be dead, nothing in between."""
    server.thaw()
    if server.alive and not guard.wait_until(server.answers, 3):
        server.kill()


def _reset(server: Server) -> None:
    """Undo settings of a test and a pause of the replay."""
    if "=" in (server.data / "postgresql.auto.conf").read_text():
        server.sql("ALTER SYSTEM RESET ALL")
        server.sql("SELECT pg_reload_conf()")
    server.sql("SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_replay_resume() END")
