"""The proxy forwards, counts and breaks connections as told; seen with plain sockets and once with a real COMMIT."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import psycopg
import pytest

from servers import Cluster, Proxy


class Echo:
    """A target that answers each chunk with ">" and the chunk, and remembers what it got."""

    def __init__(self) -> None:
        """Listen at once."""
        self.got = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(ConnectionError), client:  # being cut off is what the tests do
            while chunk := client.recv(65536):
                self.got += chunk
                client.sendall(b">" + chunk)


@pytest.fixture(scope="module")
def echo() -> Echo:
    """Start one target for all tests."""
    return Echo()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    """Start a proxy in front of the echo."""
    echo.got = b""
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    """Return a connection that went through."""
    client = socket.create_connection((proxy.host, proxy.port), timeout=5)
    assert ask(client, b"hello") == b">hello"
    return client


def ask(client: socket.socket, data: bytes) -> bytes:
    """Send something and return the answer."""
    client.sendall(data)
    return client.recv(100)


def test_forwards_and_counts(proxy: Proxy) -> None:
    """What goes through is counted and can be looked at, until it is cleared."""
    with connected(proxy):
        assert proxy.wait_for(b">hello", "server")
        assert (proxy.connections, proxy.bytes_from_client, proxy.bytes_from_server) == (1, 5, 6)
        assert (proxy.seen("client"), proxy.seen("server")) == (b"hello", b">hello")
        proxy.clear()
        assert (proxy.connections, proxy.seen("client")) == (0, b"")
        assert not proxy.wait_for(b"never", timeout=0.05)


def test_a_cut_resets_the_connections_of_the_moment(proxy: Proxy) -> None:
    """A cut resets the connections of the moment; later ones work."""
    with connected(proxy) as client:
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    connected(proxy).close()


def test_cut_before_forwarding(proxy: Proxy, echo: Echo) -> None:
    """The chunk that triggers the cut is lost, even when its bytes come in two pieces."""
    proxy.cut_when(b"secret", "client", forward=False)
    with connected(proxy) as client, pytest.raises(ConnectionResetError):
        ask(client, b"sec")
        ask(client, b"ret")
    assert echo.got == b"hellosec"
    connected(proxy).close()


def test_cut_after_forwarding(proxy: Proxy, echo: Echo) -> None:
    """The target gets the chunk, its answer is lost."""
    proxy.cut_when(b"commit", "client", forward=True)
    with connected(proxy) as client, pytest.raises(ConnectionResetError):
        ask(client, b"commit")
    assert echo.got == b"hellocommit"
    assert b"commit" not in proxy.seen("server")


def test_cut_at_an_answer(proxy: Proxy) -> None:
    """An answer can be the trigger: lost, or the last thing that the client gets."""
    proxy.cut_when(b">one", "server", forward=False)
    proxy.cut_when(b">two", "server", forward=True)
    with connected(proxy) as client, pytest.raises(ConnectionResetError):
        ask(client, b"one")
    with connected(proxy) as client:
        assert (ask(client, b"two"), client.recv(1)) == (b">two", b"")


def test_hold_and_release(proxy: Proxy, echo: Echo) -> None:
    """A held connection stays, silent, and goes on with what was held."""
    with connected(proxy) as client:
        proxy.hold()
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            ask(client, b"held")
        assert echo.got == b"hello"
        proxy.release()
        client.settimeout(5)
        assert client.recv(100) == b">held"


def test_cut_while_nothing_moves(proxy: Proxy) -> None:
    """A cut ends connections that are held, and those whose client doesn't read."""
    with connected(proxy) as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * 2**26)
        proxy.cut()
        assert not proxy._links
    with connected(proxy) as client:
        proxy.hold()
        client.sendall(b"held")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_refuse_and_accept(proxy: Proxy) -> None:
    """New connections are reset at once, present ones stay."""
    with connected(proxy) as client:
        proxy.refuse()
        with pytest.raises(ConnectionError):
            connected(proxy)
        assert ask(client, b"still") == b">still"
        proxy.accept()
        connected(proxy).close()


def test_retarget(proxy: Proxy) -> None:
    """New connections go to another target; one that isn't there looks like a closed connection."""
    other = Echo()
    proxy.retarget("127.0.0.1", other.port)
    connected(proxy).close()
    assert other.got == b"hello"
    proxy.retarget("127.0.0.1", 1)
    with pytest.raises((ConnectionError, AssertionError)):
        connected(proxy)


def test_a_commit_whose_answer_is_lost(cluster: Cluster) -> None:
    """The client's connection breaks in COMMIT, and the row is there."""
    with Proxy(cluster.primary.host, cluster.primary.port) as proxy:
        dsn = cluster.dsn(host=proxy.host, port=proxy.port, sslmode="disable")
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE once (id int)")
        proxy.cut_when(b"COMMIT", "client", forward=True)
        with pytest.raises(psycopg.OperationalError), psycopg.connect(dsn) as connection:
            connection.execute("INSERT INTO once VALUES (1)")
    assert cluster.primary.sql("SELECT id FROM once", "app") == [("1",)]
