"""TLS on the drivers of MariaDB and MySQL: a switch keeps it and its checks; logins of MySQL without it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from drivers.mysql.spelling import create, is_mysql

from instrumented_wrapper import FailoverFailedError, FailoverSuccessError
from servers import MariaDBCluster, MySQLCluster, certificates, guard, mariadb, mysql
from servers.black_hole import POSSIBLE, black_hole
from servers.certificates import Authority

from .app import App
from .driver import DriverUnderTest

pytestmark = pytest.mark.databases("mariadb", "mysql")

CIPHER = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
SECONDS = 20  # only a test that fails waits so long


class Secure:
    """A cluster of servers with TLS, whose certificates come from one authority."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.authority, self.stranger = Authority(folder / "ours"), Authority(folder / "stranger")
        self.folder, self.client = folder, (folder / "client.pem", folder / "client-key.pem")
        self.authority.issue("client", *self.client)
        known = folder / "known.pem"  # MySQL refuses to use a certificate whose authority it does not know
        known.write_text("".join(each.certificate.read_text() for each in (self.authority, self.stranger)))
        tls = (f"ssl-ca={known}", "tls-version=TLSv1.2,TLSv1.3")
        make: Any = MySQLCluster if kind == "MySQL" else MariaDBCluster
        self.prepared = False
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


def running(kind: str) -> Iterator[Secure]:
    available, words = (mysql.available, mysql.missing()) if kind == "MySQL" else (mariadb.available, "")
    if not available():
        pytest.skip(words or mariadb.MISSING)
    if not certificates.available():
        pytest.skip(certificates.MISSING)
    folder = guard.Folder("tls-").path
    folder.chmod(0o755)
    secure = Secure(kind, folder)
    with secure.cluster:
        yield secure


@pytest.fixture(scope="module")
def secure_mariadb() -> Iterator[Secure]:
    yield from running("MariaDB")


@pytest.fixture(scope="module")
def secure_mysql() -> Iterator[Secure]:
    yield from running("MySQL")


@pytest.fixture
def secure(request: pytest.FixtureRequest, driver: DriverUnderTest) -> Secure:
    running = request.getfixturevalue(f"secure_{driver.site.system}")
    running.cluster.restore()
    if not running.prepared:
        driver.site.prepare(running.cluster)
        running.prepared = True
    for server in running.cluster.servers:
        running.certify(server)
        server.sql("SET GLOBAL require_secure_transport=OFF", "")
    return running


@pytest.fixture
def cluster(secure: Secure) -> Any:
    return secure.cluster


@pytest.fixture
def verified(driver: DriverUnderTest, secure: Secure) -> dict[str, Any]:
    """The keywords with which a driver checks who the server is."""
    return driver.tls(secure.authority.certificate)


def cipher(connection: App) -> str:
    ((_, name),) = connection.ask(CIPHER)
    return str(name)


def fails(connection: App) -> FailoverFailedError:
    with pytest.raises(FailoverFailedError) as caught:
        connection.ask("SELECT 1")
    return caught.value


def test_a_switch_keeps_tls(driver, app, secure, cluster, background, site, monkeypatch) -> None:
    """The servers require it, and one account a certificate of the client; Python's own TLS keeps its context."""
    create(cluster.primary, "USER", "certified@'%'", "IDENTIFIED BY 'app-secret' REQUIRE SUBJECT '/CN=client'")
    cluster.primary.sql("GRANT ALL ON app.* TO certified@'%'")
    cluster.wait_streaming()
    for server in cluster.servers:
        server.sql("SET GLOBAL require_secure_transport=ON", "")
    authority = secure.authority.certificate
    certified = app(user="certified", **driver.tls(authority, *secure.client))
    idle, busy = (app(**driver.tls(authority)) for _ in range(2))
    idle.ask("SET @x = 5, time_zone = '+02:00'")
    called = background(busy.ask, site.slow)
    site.wait_running()
    made: list[Any] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: made.append(1))
    cluster.failover()
    assert idle.ask("SELECT @x, @@time_zone") == [(5, "+02:00")]
    assert certified.ask("SELECT CURRENT_USER()") == [("certified@%",)]
    error = called.exception(SECONDS)
    assert isinstance(error, FailoverSuccessError) and error.may_have_run
    assert all(map(cipher, (idle, certified, busy)))
    assert not made


def test_a_session_that_is_ended_within_a_statement(app, verified, background, site) -> None:
    """Some drivers call it an error of TLS."""
    connection = app(**verified)
    called = background(connection.ask, site.slow)
    site.wait_running()
    site.end_sessions()
    error = called.exception(SECONDS)
    assert isinstance(error, FailoverSuccessError) and error.may_have_run
    assert cipher(connection)


def refusals(server: Any) -> int:
    """Count the logins that came to nothing."""
    ((_, count),) = server.sql("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")
    return int(count)


def test_a_certificate_of_a_strangers(app, verified, secure: Secure, cluster, background, site) -> None:
    """Such a server is not gone to; once its certificate is right, the next attempt takes the files as they are."""
    impatient, patient = (app(options={"failover_timeout": seconds}, **verified) for seconds in (1, SECONDS))
    secure.certify(cluster.standby, secure.stranger)
    cluster.failover()
    server = cluster.primary
    assert f"{server.host}:{server.port} has a certificate that is not trusted" in str(fails(impatient))
    assert site.sessions(server) == []
    refused = refusals(server)
    moved = background(patient.ask, "SELECT 1")
    assert guard.wait_until(lambda: refusals(server) > refused, SECONDS)
    secure.certify(server)
    assert moved.result(SECONDS) == [(1,)]
    assert cipher(patient)


def test_a_certificate_for_another_address(driver: DriverUnderTest, app, verified, secure: Secure, cluster) -> None:
    connection = app(options={"failover_timeout": 1}, **verified)
    secure.certify(cluster.standby, address="192.0.2.1")
    cluster.failover()
    server = cluster.primary
    with suppress(driver.error):
        app(server, **verified)
        pytest.skip("the driver itself goes there: its C library does not compare addresses")
    assert f"{server.host}:{server.port} has a certificate that is not trusted" in str(fails(connection))


# --- without TLS --------------------------------------------------------------------------------------------------


def test_a_server_that_has_come_to_require_tls(driver: DriverUnderTest, app, site, cluster) -> None:
    """The answer will not change: the search ends at once, and says why."""
    connection = app(options={"failover_timeout": SECONDS}, **driver.no_tls)
    assert not cipher(connection)
    cluster.primary.sql("SET GLOBAL require_secure_transport=ON", "")
    cluster.standby.kill()
    site.end_sessions()
    error = str(fails(connection))
    known = "does not agree on a secure transport"
    expected = (known,) if is_mysql(cluster) else (known, "refused the login")  # MariaDB before 11 has no own code
    assert any(f"{cluster.primary.host}:{cluster.primary.port} {words}" in error for words in expected)


@pytest.mark.databases("mysql")  # MariaDB has no caching_sha2_password
def test_a_password_that_the_new_server_has_not_seen(driver: DriverUnderTest, app, verified, cluster) -> None:
    """`caching_sha2_password` sends it over TLS or encrypted, which not every driver can do by itself."""
    plain, secret = app(options={"failover_timeout": SECONDS}, **driver.no_tls), app(**verified)
    cluster.standby.forget_passwords()
    cluster.failover()
    if driver.has("encrypted passwords"):
        assert plain.ask("SELECT 1") == [(1,)]
    else:
        assert f"{cluster.primary.host}:{cluster.primary.port} refused the login" in str(fails(plain))
    assert cipher(secret)


@pytest.mark.skipif(not POSSIBLE, reason="needs iptables and root")
def test_a_host_that_vanishes(app, cluster, background, site, verified) -> None:
    """One connection waits for an answer, the other one is idle."""
    idle, busy = (app(options={"detection_timeout": 1}, **verified) for _ in range(2))
    call = background(busy.ask, site.slow)
    site.wait_running()
    with black_hole(cluster.primary.port):
        cluster.standby.promote()
        error = call.exception(SECONDS)
        assert isinstance(error, FailoverSuccessError) and error.may_have_run
        with suppress(FailoverSuccessError):  # it was sent before the kernel gave the connection up
            idle.ask("SELECT 1")
        assert all(map(cipher, (idle, busy)))


def test_a_server_that_freezes(app, cluster, background, site, verified) -> None:
    busy = app(options={"probe_after": 0.2}, **verified)
    call = background(busy.ask, site.slow)
    site.wait_running()
    with site.frozen():
        cluster.standby.promote()
        error = call.exception(SECONDS)
        assert isinstance(error, FailoverSuccessError) and error.may_have_run
        assert cipher(busy)
