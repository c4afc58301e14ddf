"""Two servers of MySQL with Group Replication: one is the only member of its group, the other is outside it.

A member that has been restarted, and does not join its group by itself, is so, and takes writes.
"""

from types import TracebackType
from typing import Final, Self

from servers import binaries, guard
from servers.mysql_server import MySQLServer, available, missing
from servers.replicating import ACCOUNT
from servers.server import HOST, START_SECONDS, ServerError, free_port

__all__ = ["Group", "available", "missing"]

SETTINGS: Final = (
    "tls-version=TLSv1.3",  # the group's own connections do not begin without one
    "performance-schema=ON",
    f"report-host={HOST}",
    "plugin-load-add=group_replication.so",
    "loose-group-replication-group-name=6b1f7a52-0d2c-4f0e-9c38-5a0f3c1de001",
    "loose-group-replication-start-on-boot=OFF",
)


class Group:
    """`member` is the primary of its group; `outsider` has the same configuration."""

    def __enter__(self) -> Self:
        """Start both.

        Raises:
            ServerError: MySQL is not installed, a server does not start, or no group comes to be.
        """
        MySQLServer.require()
        self._folder = guard.Folder("gr-")
        binaries.own(self._folder.path)
        self.member, self.outsider = (MySQLServer(self._folder.path, n, i) for i, n in enumerate(("in", "out"), 1))
        try:
            for server in (self.member, self.outsider):
                server.settings = (*SETTINGS, f"loose-group-replication-local-address={HOST}:{free_port()}")
                server.create()
                server.start()
                server.set_up()
                server.remember(**ACCOUNT)
            self._bootstrap()
        except BaseException:
            self.close()
            raise
        return self

    def _bootstrap(self) -> None:
        begin = "SET GLOBAL group_replication_bootstrap_group=ON; START GROUP_REPLICATION"
        self.member.sql(f"{begin}; SET GLOBAL group_replication_bootstrap_group=OFF", "")
        if not guard.wait_until(self.member.writable, START_SECONDS):
            raise ServerError(f"{self.member!r} is not the primary of a group: {self.member.last_words()}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    def close(self) -> None:
        """Stop both and remove their files."""
        for server in (self.member, self.outsider):
            server.kill()
        self._folder.close()
