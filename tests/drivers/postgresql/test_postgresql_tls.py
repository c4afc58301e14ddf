"""TLS on the drivers of PostgreSQL: a switch keeps it and its checks."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError
from servers import Cluster, binaries, certificates, guard
from servers.black_hole import POSSIBLE, black_hole
from servers.certificates import Authority
from servers.server import APP, conninfo

CIPHER = "SELECT ssl, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
SECONDS = 20  # only a test that fails waits so long
NUMBERS = count()


class Secure:
    """A cluster with TLS, whose certificates come from one authority."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.authority, self.stranger = Authority(folder / "ours"), Authority(folder / "stranger")
        self.cluster, self._folder = cluster, folder

    def certify(self, server: Any, authority: Authority | None = None, **address: str) -> None:
        """Give a server a certificate, and wait until it uses it."""
        name = f"{server.name}-{next(NUMBERS)}"
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        (authority or self.authority).issue(server.name, certificate, key, **address)
        for path in (certificate, key):
            path.chmod(0o600)
            binaries.own(path)
        for setting, value in (("ssl_cert_file", certificate), ("ssl_key_file", key), ("ssl", "on")):
            server.sql(f"ALTER SYSTEM SET {setting} = '{value}'")
        server.sql("SELECT pg_reload_conf()")
        assert guard.wait_until(lambda: server.sql("SHOW ssl_cert_file") == [(str(certificate),)], SECONDS)


@pytest.fixture(scope="module")
def running() -> Iterator[Secure]:
    if not certificates.available():
        pytest.skip(certificates.MISSING)
    # Those that come as packages are built without TLS.
    programs = next((path for path in binaries.candidates() if _has_tls(path / "postgres")), None)
    if programs is None:
        pytest.skip("no PostgreSQL here is built with TLS; a system's package is")
    folder = guard.Folder("tls-").path
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binaries, "folder", lambda: programs)
        with Cluster() as cluster:
            yield Secure(folder, cluster)


def _has_tls(program: Path) -> bool:
    return program.is_file() and b"libssl" in program.read_bytes()


@pytest.fixture
def secure(running: Secure) -> Secure:
    running.cluster.restore()
    for server in running.cluster.servers:
        running.certify(server)
    return running


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


class App:
    """An app with one of the drivers."""

    def __init__(self, kind: str, loop: asyncio.Runner, dsn: str, **options: Any) -> None:
        self._loop = loop
        ours = {"failover_timeout": SECONDS, **options}
        if kind == "psycopg async":
            opened = psycopg.AsyncConnection.connect(dsn, autocommit=True, instrumented_wrapper=ours)
            self.connection: Any = loop.run(_awaited(opened))
        elif kind == "psycopg":
            self.connection = psycopg.connect(dsn, autocommit=True, instrumented_wrapper=ours)
        elif kind == "pg8000":
            self.connection = _pg8000_of(dsn, ours)
        else:
            self.connection = psycopg2.connect(dsn, instrumented_wrapper=ours)
            self.connection.autocommit = True

    def ask(self, text: str) -> Any:
        if isinstance(self.connection, psycopg.AsyncConnection):
            return self._loop.run(self._ask_async(text))
        cursor = self.connection.cursor()
        cursor.execute(text)
        row = cursor.fetchone()
        return None if row is None else tuple(row)

    async def _ask_async(self, text: str) -> Any:
        return await (await self.connection.execute(text)).fetchone()

    def close(self) -> None:
        with suppress(Exception):  # closed for good by the test
            closed = self.connection.close()
            if closed is not None:
                self._loop.run(_awaited(closed))


def _pg8000_of(dsn: str, ours: dict[str, Any]) -> Any:
    """Connect with pg8000, which knows one host and takes a context in place of the names of files."""
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    hosts, ports = str(given["host"]).split(","), str(given["port"]).split(",")
    connection = pytest.importorskip("pg8000.dbapi").connect(
        str(given["user"]),
        host=hosts[0],
        port=int(ports[0]),
        database=given["dbname"],
        password=given["password"],
        ssl_context=ssl.create_default_context(cafile=str(given["sslrootcert"])),
        instrumented_wrapper={"failover_hosts": ",".join(map(":".join, zip(hosts, ports, strict=True))), **ours},
    )
    connection.autocommit = True
    return connection


async def _awaited(what: Any) -> Any:
    return await what


@pytest.fixture(params=["psycopg", "psycopg async", "psycopg2", "pg8000"])
def connect(request: pytest.FixtureRequest, secure: Secure, loop: asyncio.Runner) -> Iterator[Callable[..., App]]:
    """Connect to both servers; the driver checks who they are."""
    with ExitStack() as stack:

        def connect(**options: Any) -> App:
            both = (secure.cluster.primary, secure.cluster.standby)
            where = {"host": ",".join(one.host for one in both), "port": ",".join(str(one.port) for one in both)}
            checks = {"sslmode": "verify-full", "sslrootcert": secure.authority.certificate, "gssencmode": "disable"}
            app = App(request.param, loop, conninfo(**where, **checks, **APP), **options)
            stack.callback(app.close)
            return app

        yield connect


def test_a_switch_keeps_tls(connect, secure: Secure) -> None:
    app = connect()
    before = app.ask(CIPHER)
    app.ask("SELECT set_config('app.tenant', 'acme', false)")
    secure.cluster.failover()
    assert app.ask("SELECT current_setting('app.tenant')") == ("acme",)
    assert before[0] is True
    assert app.ask(CIPHER) == before


@pytest.mark.parametrize("wrong", ["authority", "address"])
def test_a_server_that_is_another_one_is_not_gone_to(connect, secure: Secure, wrong: str) -> None:
    app = connect(failover_timeout=1)
    assert app.ask(CIPHER)[0]
    standby = secure.cluster.standby
    if wrong == "authority":
        secure.certify(standby, secure.stranger)
    else:
        secure.certify(standby, address="192.0.2.1")
    secure.cluster.failover()
    with pytest.raises(FailoverFailedError) as caught:
        app.ask("SELECT 1")
    assert f"{standby.host}:{standby.port} has a certificate that is not trusted" in str(caught.value)
    assert standby.sql("SELECT 1 FROM pg_stat_activity WHERE usename = 'app'") == []


@contextmanager
def waiting(secure: Secure, app: App) -> Iterator[Future[Any]]:
    """A statement of the app is under way, in a thread."""
    text = "SELECT 1 FROM pg_stat_activity WHERE usename = 'app' AND query LIKE '%pg_sleep%' AND state = 'active'"
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(app.ask, "SELECT pg_sleep(60)")
        assert guard.wait_until(lambda: bool(secure.cluster.primary.sql(text)), SECONDS)
        yield call


@pytest.mark.skipif(not POSSIBLE, reason="needs iptables and root")
def test_a_host_that_vanishes_under_a_statement(connect, secure: Secure) -> None:
    app = connect(detection_timeout=1)
    with waiting(secure, app) as call, black_hole(secure.cluster.primary.port):
        secure.cluster.standby.promote()
        error = call.exception(SECONDS)
        assert isinstance(error, FailoverSuccessError) and error.may_have_run
        assert app.ask(CIPHER)[0]


@pytest.mark.skipif(not POSSIBLE, reason="needs iptables and root")
def test_a_host_that_vanishes_from_an_idle_connection(connect, secure: Secure) -> None:
    app = connect(detection_timeout=1)
    assert app.ask(CIPHER)[0]
    with black_hole(secure.cluster.primary.port):
        secure.cluster.standby.promote()
        with suppress(FailoverSuccessError):  # it was sent before the kernel gave the connection up
            app.ask("SELECT 1")
        assert app.ask("SELECT pg_is_in_recovery()") == (False,)
        assert app.ask(CIPHER)[0]


def test_a_server_that_freezes(connect, secure: Secure) -> None:
    app, primary = connect(probe_after=0.2), secure.cluster.primary
    with waiting(secure, app) as call:
        primary.freeze()
        try:
            secure.cluster.standby.promote()
            error = call.exception(SECONDS)
            assert isinstance(error, FailoverSuccessError) and error.may_have_run
            assert app.ask(CIPHER)[0]
        finally:
            primary.thaw()
