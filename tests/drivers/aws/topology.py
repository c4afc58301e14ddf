"""A topology of a plain primary and standby for the AWS Advanced Python Driver, which otherwise asks Aurora for it.

Each server is asked whether it is a standby, over connections that the driver opens for itself, as its monitors do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from aws_advanced_python_wrapper.database_dialect import MysqlDatabaseDialect, PgDatabaseDialect
from aws_advanced_python_wrapper.host_list_provider import DynamicHostListProvider
from aws_advanced_python_wrapper.hostinfo import HostInfo, HostRole

from tests.drivers.side import done

_PAUSE = 0.02  # seconds between two looks


class _Topology:
    """What both providers have."""

    def __init__(self, service: Any, props: Any, hosts: Iterable[tuple[str, int]]) -> None:
        self._service, self._props = service, props
        self._hosts = tuple(HostInfo(host, port, role=HostRole.UNKNOWN) for host, port in hosts)
        self._known: tuple[HostInfo, ...] = ()
        if service is not None:
            service.initial_connection_host_info = HostInfo(props["host"], int(props["port"]))

    def _take(self, found: list[HostInfo]) -> tuple[HostInfo, ...]:
        self._known = tuple(found)
        own = None if self._service is None else self._service.initial_connection_host_info
        for host in found if own is not None else ():
            if (host.host, host.port) == (own.host, own.port):
                own.role = host.role
        return self._known

    def get_cluster_id(self) -> str:
        return "pair"

    def _has_writer(self) -> bool:
        return any(host.role == HostRole.WRITER for host in self._known)


class PairTopology(_Topology, DynamicHostListProvider):
    """Of the sync package."""

    def refresh(self, connection: Any = None) -> tuple[HostInfo, ...]:
        return self._known or self.force_refresh()

    def force_refresh(self, connection: Any = None) -> tuple[HostInfo, ...]:
        return self._take([host for host in map(self._looked_at, self._hosts) if host is not None])

    def force_monitoring_refresh(self, should_verify_writer: bool, timeout_sec: float) -> tuple[HostInfo, ...]:
        end = time.monotonic() + timeout_sec
        while not self._has_writer_now() and time.monotonic() < end:
            time.sleep(_PAUSE)
        return self._known

    def _has_writer_now(self) -> bool:
        self.force_refresh()
        return self._has_writer()

    def get_current_topology(self, connection: Any, initial_host_info: HostInfo) -> tuple[HostInfo, ...]:
        return self.force_refresh()

    def stop_monitor(self) -> None:
        pass

    def is_static_host_list_provider(self) -> bool:
        return False

    def _looked_at(self, host: HostInfo) -> HostInfo | None:
        with suppress(Exception):  # one that is down is no member
            connection = self._service.force_connect(host, self._props)
            try:
                return HostInfo(host.host, host.port, role=self._service.get_host_role(connection))
            finally:
                connection.close()
        return None


class AsyncPairTopology(_Topology):
    """Of the package `aio`, which opens its monitors' connections by the driver's dialect."""

    def __init__(self, dialect: Any, target: Any, question: str, props: Any, hosts: Iterable[tuple[str, int]]) -> None:
        super().__init__(None, props, hosts)
        self._dialect, self._target, self._question = dialect, target, question

    async def refresh(self, connection: Any = None) -> tuple[HostInfo, ...]:
        return self._known or await self.force_refresh()

    async def force_refresh(self, connection: Any = None) -> tuple[HostInfo, ...]:
        found = [await self._looked_at(host) for host in self._hosts]
        return self._take([host for host in found if host is not None])

    async def force_monitoring_refresh(self, should_verify_writer: bool, timeout_sec: float) -> tuple[HostInfo, ...]:
        end = time.monotonic() + timeout_sec
        await self.force_refresh()
        while not self._has_writer() and time.monotonic() < end:
            await asyncio.sleep(_PAUSE)
            await self.force_refresh()
        return self._known

    async def stop(self) -> None:
        pass

    async def _looked_at(self, host: HostInfo) -> HostInfo | None:
        with suppress(Exception):
            connection = await self._dialect.connect(host, self._props, self._target)
            try:
                cursor = await done(connection.cursor())
                await cursor.execute(self._question)
                is_standby = (await cursor.fetchone())[0]
                return HostInfo(host.host, host.port, role=HostRole.READER if is_standby else HostRole.WRITER)
            finally:
                await done(connection.close())
        return None


class _OfPair:
    """What makes a dialect of the driver's own one of a pair."""

    def __init__(self, hosts: Iterable[tuple[str, int]]) -> None:
        self._hosts = tuple(hosts)

    def get_host_list_provider_supplier(self, plugin_service: Any) -> Callable[..., PairTopology]:
        return lambda service, props: PairTopology(plugin_service, props, self._hosts)


class PostgreSQLPair(_OfPair, PgDatabaseDialect):
    """Dialect of a PostgreSQL primary and standby."""


class MySQLPair(_OfPair, MysqlDatabaseDialect):
    """Dialect of a MySQL or MariaDB primary and replica."""
