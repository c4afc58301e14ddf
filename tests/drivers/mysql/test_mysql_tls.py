"""TLS on the drivers of MariaDB and MySQL: a switch keeps it and its checks; logins of MySQL without it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError, session_state
from servers import MariaDBCluster, MySQLCluster, certificates, guard, mariadb, mysql
from servers.certificates import Authority
from servers.replicating import ACCOUNT

from .server_session import ask, end, session
from .spelling import create, is_mysql

CIPHER = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
SECONDS = 20  # only a test that fails waits so long


class Secure:
    """A pair of servers with TLS, whose certificates come from one authority."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.authority, self.stranger = Authority(folder / "ours"), Authority(folder / "stranger")
        self.folder, self.client = folder, (folder / "client.pem", folder / "client-key.pem")
        self.authority.issue("client", *self.client)
        known = folder / "known.pem"  # MySQL refuses to use a certificate whose authority it does not know
        known.write_text("".join(each.certificate.read_text() for each in (self.authority, self.stranger)))
        tls = (f"ssl-ca={known}", "tls-version=TLSv1.2,TLSv1.3")
        make: Any = MySQLCluster if kind == "MySQL" else MariaDBCluster
        self.cluster: Any = make(*tls, of_each=self.certify)

    def certify(self, server: Any, authority: Authority | None = None, **address: str) -> tuple[str, ...]:
        """Give a server a certificate; return the options for it. One that runs takes it for the next connections."""
        certificate, key = (self.folder / f"{server.name}{end}.pem" for end in ("", "-key"))
        (authority or self.authority).issue(server.name, certificate, key, **address)
        for path in (certificate, key):
            path.chmod(0o644)  # the user that runs the servers is another one
        if server.alive:
            server.sql("ALTER INSTANCE RELOAD TLS" if is_mysql(self.cluster) else "FLUSH LOCAL SSL", "")
        return (f"ssl-cert={certificate}", f"ssl-key={key}")


@pytest.fixture(scope="module", params=["MariaDB", "MySQL"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    available, words = (mysql.available, mysql.missing()) if request.param == "MySQL" else (mariadb.available, "")
    if not available():
        pytest.skip(words or mariadb.MISSING)
    if not certificates.available():
        pytest.skip(certificates.MISSING)
    folder = guard.Folder("tls-").path
    folder.chmod(0o755)
    secure = Secure(request.param, folder)
    with secure.cluster:
        yield secure


@pytest.fixture
def secure(running: Secure) -> Secure:
    running.cluster.restore()
    for server in running.cluster.servers:
        running.certify(server)
        server.sql("SET GLOBAL require_secure_transport=OFF", "")
        server.remember(**ACCOUNT)
    return running


@pytest.fixture
def pair(secure: Secure) -> Any:
    """The servers that `connect` connects to."""
    return secure.cluster


@pytest.fixture
def verified(driver: ModuleType, kind: str, secure: Secure) -> dict[str, Any]:
    """The keywords with which a driver checks who the server is."""
    ca = str(secure.authority.certificate)
    if kind == "MySQLdb":
        return {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": ca}}
    return {"ssl_ca": ca, "ssl_verify_cert": True, "ssl_verify_identity": True}


def client_certificate(kind: str, secure: Secure, verified: dict[str, Any]) -> dict[str, Any]:
    certificate, key = map(str, secure.client)
    if kind == "MySQLdb":
        return {**verified, "ssl": {**verified["ssl"], "cert": certificate, "key": key}}
    return {**verified, "ssl_cert": certificate, "ssl_key": key}


@pytest.fixture
def background() -> Iterator[Callable[..., Any]]:
    """Call something in a thread."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


def sleeps(server: Any) -> bool:
    return bool(server.sql("SELECT 1 FROM information_schema.processlist WHERE user = 'app' AND info LIKE '%SLEEP%'"))


def cipher(connection: Any) -> str:
    ((_, name),) = ask(connection, CIPHER)
    return str(name)


def fails(connection: Any) -> FailoverFailedError:
    with pytest.raises(FailoverFailedError) as caught:
        ask(connection, "SELECT 1")
    return caught.value


# --- a switch keeps TLS -------------------------------------------------------------------------------------------


def test_a_switch_keeps_tls(connect, verified, pair) -> None:
    connection = connect(**verified)
    assert cipher(connection)
    ask(connection, "SET @x = 5, time_zone = '+02:00'")
    ask(connection, "SELECT 1")
    pair.failover()
    assert ask(connection, "SELECT @x, @@time_zone") == [(5, "+02:00")]
    assert cipher(connection)
    assert session_state(connection)["time_zone"].value == "+02:00"


@pytest.mark.parametrize("killed", [True, False])
def test_a_statement_that_is_lost_under_way(connect, verified, pair, background, killed: bool) -> None:
    """Some drivers call it an error of TLS."""
    connection = connect(**verified)
    number = session(connection)
    called = background(ask, connection, "SELECT SLEEP(60)")
    assert guard.wait_until(lambda: sleeps(pair.primary), SECONDS)
    pair.failover() if killed else end(pair.primary, number)
    error = called.exception(SECONDS)
    assert isinstance(error, FailoverSuccessError)
    assert error.may_have_run
    assert cipher(connection)


def test_it_keeps_the_certificate_of_the_client(connect, kind: str, verified, secure: Secure, pair) -> None:
    create(pair.primary, "USER", "certified@'%'", "IDENTIFIED BY 'app-secret' REQUIRE SUBJECT '/CN=client'")
    pair.primary.sql("GRANT ALL ON app.* TO certified@'%'")
    pair.wait_streaming()
    connection = connect(user="certified", **client_certificate(kind, secure, verified))
    pair.failover()
    assert cipher(connection)
    assert ask(connection, "SELECT CURRENT_USER()") == [("certified@%",)]


def test_a_server_with_a_certificate_of_a_strangers_is_not_gone_to(connect, verified, secure: Secure, pair) -> None:
    connection = connect(options={"failover_timeout": 1}, **verified)
    assert cipher(connection)
    secure.certify(pair.standby, secure.stranger)
    standby = pair.standby
    pair.failover()
    error = fails(connection)
    assert f"{standby.host}:{standby.port} has a certificate that is not trusted" in str(error)
    assert standby.sql("SELECT 1 FROM information_schema.processlist WHERE user = 'app'") == []


def test_it_is_gone_to_once_its_certificate_is_right(connect, verified, secure: Secure, pair, background) -> None:
    """The first attempt fails, a later one does not: an attempt begins anew with the files as they are."""
    connection = connect(options={"failover_timeout": SECONDS}, **verified)
    secure.certify(pair.standby, secure.stranger)
    refused = refusals(pair.standby)
    pair.failover()
    moved = background(ask, connection, "SELECT 1")
    assert guard.wait_until(lambda: refusals(pair.primary) > refused, SECONDS)
    secure.certify(pair.primary)
    assert moved.result(SECONDS) == [(1,)]
    assert cipher(connection)


def refusals(server: Any) -> int:
    """Count the logins that came to nothing."""
    ((_, count),) = server.sql("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")
    return int(count)


def test_a_server_with_a_certificate_for_another_address_is_not_gone_to(
    connect, verified, secure: Secure, pair, driver
) -> None:
    connection = connect(options={"failover_timeout": 1}, **verified)
    standby = pair.standby
    secure.certify(standby, address="192.0.2.1")
    pair.failover()
    with suppress(driver.Error):
        connect(standby, **verified)
        pytest.skip("the driver itself goes there: its C library does not compare addresses")
    assert f"{standby.host}:{standby.port} has a certificate that is not trusted" in str(fails(connection))


def test_a_server_that_requires_tls(connect, verified, pair) -> None:
    for server in pair.servers:
        server.sql("SET GLOBAL require_secure_transport=ON", "")
    connection = connect(**verified)
    pair.failover()
    assert cipher(connection)


# --- without TLS --------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(kind: str) -> dict[str, Any]:
    return {"ssl_mode": "DISABLED"} if kind == "MySQLdb" else {"ssl_disabled": True}


def test_a_server_that_has_come_to_require_tls(connect, plain, pair) -> None:
    """The answer will not change: the search ends at once, and says why."""
    connection = connect(options={"failover_timeout": SECONDS}, **plain)
    assert not cipher(connection)
    pair.primary.sql("SET GLOBAL require_secure_transport=ON", "")
    pair.standby.kill()
    end(pair.primary, session(connection))
    error = str(fails(connection))
    known = "does not agree on a secure transport"
    expected = (known,) if is_mysql(pair) else (known, "refused the login")  # MariaDB before 11 has no code of its own
    assert any(f"{pair.primary.host}:{pair.primary.port} {words}" in error for words in expected)


def test_a_password_that_the_new_server_has_not_seen(connect, plain, kind: str, pair) -> None:
    """`caching_sha2_password` sends it over TLS or encrypted: the C library alone does this by itself."""
    if not is_mysql(pair):
        pytest.skip("MariaDB has no caching_sha2_password")
    connection = connect(options={"failover_timeout": SECONDS}, **plain)
    pair.standby.forget_passwords()
    pair.failover()
    if kind == "MySQLdb":
        assert ask(connection, "SELECT 1") == [(1,)]
        return
    if kind == "pymysql" and find_spec("cryptography"):
        assert ask(connection, "SELECT 1") == [(1,)]
    else:
        assert f"{pair.primary.host}:{pair.primary.port} refused the login" in str(fails(connection))


def test_a_password_over_tls(connect, verified, pair) -> None:
    if not is_mysql(pair):
        pytest.skip("MariaDB has no caching_sha2_password")
    connection = connect(**verified)
    pair.standby.forget_passwords()
    pair.failover()
    assert cipher(connection)


# --- what a search costs ------------------------------------------------------------------------------------------


def test_a_search_uses_the_context_that_there_is(driver, kind: str, connect, verified, pair, monkeypatch) -> None:
    if kind not in ("pymysql", "mysql.connector"):
        pytest.skip("TLS is that of the client library in C")
    connection = connect(**verified)
    made: list[Any] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: made.append(1))
    pair.failover()
    assert cipher(connection)
    assert made == []
