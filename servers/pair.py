"""A primary with a replica, of MariaDB or MySQL, which can fail over and be repaired after whatever was done to them.

It knows the two roles and who takes which. It does not know how one server is run (replicating.py), nor what connects
to the servers.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from servers import binaries, guard
from servers.replicating import ACCOUNT, ReplicatingServer
from servers.server import START_SECONDS, ServerError

S = TypeVar("S", bound=ReplicatingServer)


class Pair(Generic[S]):
    """A primary and its replica; `primary` and `standby` name the roles of the moment."""

    server: type[S]

    def __init__(self, *settings: str, of_each: Callable[[S], tuple[str, ...]] = lambda server: ()) -> None:
        """Start nothing yet: that is done by `with`, or start() and close().

        Args:
            settings: more options of both servers' program, without the dashes.
            of_each: returns more options of one server.
        """
        self._settings, self._of_each = settings, of_each
        self._folder: guard.Folder | None = None

    def __enter__(self) -> Self:
        """Start both servers."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    def start(self) -> None:
        """Set up and start both servers, and wait until the replica follows.

        Raises:
            ServerError: the database is not installed, or does not start.
        """
        self.server.require()
        self._folder = guard.Folder("my-")
        path = self._folder.path
        binaries.own(path)
        self.servers = self.server(path, "first", 1), self.server(path, "second", 2)
        for server in self.servers:
            server.settings = (*self._settings, *self._of_each(server))
        self.primary, self.standby = self.servers
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.primary.create()
        self.standby.copy(self.primary)  # empty as yet: all that follows comes by replication
        for server in self.servers:
            server.start()
        self.standby.follow(self.primary)
        self.primary.set_up()
        self.wait_streaming()
        for server in self.servers:
            server.remember(**ACCOUNT)

    def close(self) -> None:
        """Stop both servers and remove their files."""
        if self._folder:
            for server in self.servers:
                server.kill()
            self._folder.close()

    def hosts(self) -> str:
        """Return "host:port,host:port" in the order of the first start, whatever the roles are."""
        return ",".join(f"{server.host}:{server.port}" for server in self.servers)

    def failover(self) -> None:
        """Kill the primary and promote the replica; they swap roles."""
        self.primary.kill()
        self.standby.promote()
        self._swap()

    def switchover(self) -> None:
        """Demote the primary as planned and promote the replica. Connections stay open on both."""
        self.primary.demote()
        self.wait_streaming()
        self.standby.promote()
        self._swap()
        self.standby.follow(self.primary)

    def _swap(self) -> None:
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """Bring the standby back as a replica; from a copy, where it has what the primary has not."""
        self.standby.thaw()
        self.standby.start()
        self.standby.follow(self.primary)
        if not self._streams_within(3):
            self.standby.copy(self.primary)
            self.standby.start()
            self.standby.follow(self.primary)
            self.wait_streaming()

    def restore(self) -> None:
        """Make this a primary with a replica again, whatever was done to them."""
        for server in self.servers:
            server.wake()
        if not self.primary.writable() and self.standby.writable():
            self._swap()
        self.primary.start()
        if self.primary.follows is not None or not self.primary.writable():
            self.primary.promote()
        if not (self.standby.alive and self.standby.follows is self.primary and self._streams_within(3)):
            self.rejoin()

    def synchronise(self, on: bool = True) -> None:
        """Have commits of the primary wait until the replica has them, until the next failover, or no longer."""
        for server in (self.primary, self.standby):  # which asks for it
            if server.alive:
                server.synchronise(on)
        if on and not guard.wait_until(self.primary.has_follower, START_SECONDS):
            raise ServerError(f"{self.standby!r} does not confirm what it gets: {self.standby.last_words()}")
        if on:  # what was sent a moment before waits for a confirmation that only a later commit brings
            self.primary.sql("DROP DATABASE IF EXISTS nothing_to_wait_for")

    def streaming(self) -> bool:
        """Return True if the replica has what the primary wrote, up to now."""
        return self.standby.position() == self.primary.position()

    def wait_streaming(self) -> None:
        """Wait until the replica has all that the primary wrote."""
        if not self._streams_within(START_SECONDS):
            raise ServerError(f"{self.standby!r} does not follow {self.primary!r}: {self.standby.last_words()}")

    def _streams_within(self, seconds: float) -> bool:
        return guard.wait_until(self.streaming, seconds)
