"""Nodes of Galera, each the only one of its cluster: a state transfer to another one would need more programs.

A node that is told to reject queries answers as one that has lost its cluster, or is not ready yet: errno 1047 to
everything but what is about variables. Debian packages: galera-4, mariadb-server-core, mariadb-client-core.
"""

from pathlib import Path
from types import TracebackType
from typing import Final, Self

from servers import binaries, guard
from servers.mariadb_server import MISSING as MARIADB_MISSING
from servers.mariadb_server import MariaDBServer
from servers.mariadb_server import available as mariadb_available
from servers.server import HOST, START_SECONDS, ServerError, free_port

__all__ = ["MISSING", "GaleraNode", "GaleraNodes", "available"]

MISSING: Final = f"Galera is not installed: apt-get install galera-4 (or {MARIADB_MISSING})"
_PLACES: Final = ("/usr/lib/galera", "/usr/lib64/galera-4", "/usr/lib/galera-4", "/usr/lib64/galera")


def provider() -> Path | None:
    """Return where Galera's library is."""
    return next((path for place in _PLACES if (path := Path(place) / "libgalera_smm.so").is_file()), None)


def available() -> bool:
    """Return True if all that is needed is on this machine."""
    return provider() is not None and mariadb_available()


class GaleraNode(MariaDBServer):
    """One node in a folder of its own."""

    @property
    def settings(self) -> tuple[str, ...]:  # type: ignore[override]
        """The options of a node, which begins a cluster of its own."""
        own = f"gmcast.listen_addr=tcp://{HOST}:{free_port()};gcache.size=4M"
        return (
            "wsrep-on=ON",
            f"wsrep-provider={provider()}",
            "wsrep-cluster-address=gcomm://",
            f"wsrep-node-address={HOST}",
            f"wsrep-provider-options={own}",
            "innodb-autoinc-lock-mode=2",
        )

    def answers(self) -> bool:
        """Return True if the node is ready to serve."""
        return super().answers() and self.sql("SHOW STATUS LIKE 'wsrep_ready'", "") == [("wsrep_ready", "ON")]

    def refuse(self) -> None:
        """Refuse all that clients send, but for what is about variables."""
        self.sql("SET GLOBAL wsrep_reject_queries=ALL", "")

    def serve(self) -> None:
        """Serve again."""
        self.sql("SET GLOBAL wsrep_reject_queries=NONE", "")


class GaleraNodes:
    """Two nodes with the same databases and accounts."""

    def __enter__(self) -> Self:
        """Start both.

        Raises:
            ServerError: Galera is not installed, or a node does not start.
        """
        if not available():
            raise ServerError(MISSING)
        self._folder = guard.Folder("ga-")
        binaries.own(self._folder.path)
        self.first, self.second = (GaleraNode(self._folder.path, name, n) for n, name in enumerate(("one", "two"), 1))
        try:
            self.first.create()
            self.second.copy(self.first)
            for node in (self.first, self.second):
                node.start()
                node.set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    def restore(self) -> None:
        """Have both serve."""
        for node in (self.first, self.second):
            node.serve()
            if not guard.wait_until(node.answers, START_SECONDS):
                raise ServerError(f"{node!r} does not serve again: {node.last_words()}")

    def close(self) -> None:
        """Stop both and remove their files."""
        for node in (self.first, self.second):
            node.kill()
        self._folder.close()
