"""A group of MySQL servers with Group Replication: a primary and two secondaries.

A member that has been restarted, and does not join its group by itself, is outside of it, and takes writes. One that
the others have expelled is offline: it ends all sessions of the app and takes no new ones.
"""

from pathlib import Path
from types import TracebackType
from typing import Final, Self

from servers import binaries, guard
from servers.mysql_server import MySQLServer, available, missing
from servers.replicating import ACCOUNT, REPLICATION
from servers.server import HOST, ServerError, free_port

__all__ = ["Group", "GroupMember", "available", "missing"]

JOIN_SECONDS: Final = 60
_RECOVERY: Final = "group_replication_recovery"
_MEMBERS: Final = "performance_schema.replication_group_members"


class GroupMember(MySQLServer):
    """One member in a folder of its own; it joins the group only when it is told to."""

    def __init__(self, folder: Path, name: str, number: int) -> None:
        """Set nothing up yet: see create() and take()."""
        super().__init__(folder, name, number)
        self.group_port = free_port()
        self.peers: tuple[Self, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:  # type: ignore[override]
        """The options of a member; a silent one is expelled after 5 s, and one that is left alone gives up after 3."""
        group = {
            "group-name": "6b1f7a52-0d2c-4f0e-9c38-5a0f3c1de001",
            "local-address": f"{HOST}:{self.group_port}",
            "group-seeds": ",".join(f"{HOST}:{peer.group_port}" for peer in self.peers),
            "start-on-boot": "OFF",
            "member-expel-timeout": "0",
            "unreachable-majority-timeout": "3",
            "autorejoin-tries": "0",
            "recovery-use-ssl": "ON",
        }
        return (
            "tls-version=TLSv1.3",  # the group's own connections do not begin without one
            "performance-schema=ON",
            f"report-host={HOST}",
            "plugin-load-add=group_replication.so",
            *(f"loose-group-replication-{name}={value}" for name, value in group.items()),
        )

    def join(self) -> None:
        """Join the group, and wait until it has all that the others have."""
        self.sql("STOP GROUP_REPLICATION; SET GLOBAL offline_mode=0; START GROUP_REPLICATION", "")
        if not guard.wait_until(lambda: self.state() == "ONLINE", JOIN_SECONDS):
            raise ServerError(f"{self!r} does not join its group: {self.last_words()}")

    def found(self) -> None:
        """Begin a group of its own."""
        begin = "SET GLOBAL group_replication_bootstrap_group=ON; STOP GROUP_REPLICATION; START GROUP_REPLICATION"
        self.sql(f"{begin}; SET GLOBAL group_replication_bootstrap_group=OFF", "")
        if not guard.wait_until(self.is_primary, JOIN_SECONDS):
            raise ServerError(f"{self!r} is not the primary of a group: {self.last_words()}")

    def view(self) -> dict[str | None, str | None]:
        """Return the states of the members that it knows, by their ports; none while it ends all sessions."""
        try:
            rows = self.sql(f"SELECT member_port, member_state FROM {_MEMBERS}", "")
        except ServerError:
            return {}
        return {port: state for port, state in rows}  # noqa: C416 - dict() takes pairs, of which mypy knows nothing

    def state(self) -> str | None:
        """Return its own state: ``ONLINE``, ``OFFLINE``, ``ERROR``, ``RECOVERING``."""
        return self.view().get(str(self.port), "OFFLINE")

    def has_quorum(self) -> bool:
        """Return True if it is in a group most of whose members are there."""
        states = [*self.view().values()]
        return self.alive and self.state() == "ONLINE" and states.count("UNREACHABLE") * 2 < len(states)

    def is_primary(self) -> bool:
        """Return True if it is the one member of its group that takes writes."""
        role = f"SELECT 1 FROM {_MEMBERS} WHERE member_role='PRIMARY' AND member_id=@@server_uuid"
        return self.has_quorum() and self.sql(role, "") == [("1",)] and self.writable()

    def become_primary(self) -> None:
        """Have the group take it for its primary, as planned."""
        self.sql("SELECT group_replication_set_as_primary(@@server_uuid)", "")


class Group:
    """Three members."""

    def __enter__(self) -> Self:
        """Start all.

        Raises:
            ServerError: MySQL is not installed, a server does not start, or no group comes to be.
        """
        GroupMember.require()
        self._folder = guard.Folder("gr-")
        binaries.own(self._folder.path)
        names = ("one", "two", "three")
        self.members = tuple(GroupMember(self._folder.path, name, number) for number, name in enumerate(names, 1))
        for member in self.members:
            member.peers = self.members
        try:
            self._start(*self.members)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, first: GroupMember, *others: GroupMember) -> None:
        user, password = REPLICATION
        first.create()
        first.start()
        first.set_up()
        first.sql(f"GRANT CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO {user}@'%'", "")
        source = f"SOURCE_USER='{user}', SOURCE_PASSWORD='{password}'"
        first.sql(f"CHANGE REPLICATION SOURCE TO {source} FOR CHANNEL '{_RECOVERY}'", "")
        first.stop()
        for member in others:
            member.take(first.data)
        for member in self.members:
            member.start()
            member.remember(**ACCOUNT)
        first.found()
        for member in others:
            member.join()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop and remove everything."""
        self.close()

    @property
    def primary(self) -> GroupMember:
        """The primary of the moment.

        Raises:
            ServerError: there is none.
        """
        if found := [member for member in self.members if member.alive and member.is_primary()]:
            return found[0]
        raise ServerError("the group has no primary")

    @property
    def servers(self) -> tuple[GroupMember, ...]:
        """All members."""
        return self.members

    def wait_streaming(self) -> None:
        """Wait until all members have applied what was committed before."""
        self.rows(r"SELECT REPLACE(@@global.gtid_executed, '\n', '')")

    def others(self, member: GroupMember) -> tuple[GroupMember, ...]:
        """Return all members but this one."""
        return tuple(each for each in self.members if each is not member)

    def wait_for_primary(self, *among: GroupMember) -> GroupMember:
        """Wait until one of these members is the primary; return it."""
        if not guard.wait_until(lambda: any(member.is_primary() for member in among), JOIN_SECONDS):
            raise ServerError(f"none becomes the primary: {[member.view() for member in among]}")
        return next(member for member in among if member.is_primary())

    def restore(self) -> None:
        """Have all in one group, whatever was done to them."""
        for member in self.members:
            member.thaw()
            member.start()
        guard.wait_until(self._settled, JOIN_SECONDS)
        if not any(member.has_quorum() for member in self.members):
            max(self.members, key=lambda member: len(member.position() or "")).found()
        for member in self.members:
            if not member.has_quorum():
                member.join()
        if not guard.wait_until(self.together, JOIN_SECONDS):
            raise ServerError(f"not all are in the group: {[member.view() for member in self.members]}")

    def _settled(self) -> bool:
        """Return True if no member waits for the others, or takes itself for one of a group that has expelled it."""
        views = [member.view() for member in self.members if member.state() == "ONLINE"]
        return all("UNREACHABLE" not in view.values() and view == views[0] for view in views)

    def together(self) -> bool:
        """Return True if all are in one group, which has a primary."""
        views = [member.view() for member in self.members]
        whole = all([*view.values()] == ["ONLINE"] * len(views) and view == views[0] for view in views)
        return whole and any(member.is_primary() for member in self.members)

    def rows(self, text: str) -> list[tuple[str | None, ...]]:
        """Return the rows of a query, which all members give in the end; one that was expelled meanwhile joins."""
        if not self.together():
            self.restore()

        def answers() -> list[list[tuple[str | None, ...]]]:
            return [sorted(member.sql(text)) for member in self.members]

        if not guard.wait_until(lambda: all(answer == got[0] for got in [answers()] for answer in got), JOIN_SECONDS):
            raise ServerError(f"the members have {[len(answer) for answer in answers()]} rows, and not the same")
        return answers()[0]

    def close(self) -> None:
        """Stop all and remove their files."""
        for member in self.members:
            member.kill()
        self._folder.close()
