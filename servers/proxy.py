"""A small TCP proxy that breaks connections on demand: at a byte, in silence, or at once.

It knows bytes and sockets only: neither PostgreSQL's protocol nor its servers.
"""

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Direction = Literal["client", "server"]

CHUNK = 65536
REMEMBERED = 16 * 2**20  # bytes per direction, so that a benchmark does not fill the memory
RESET = struct.pack("ii", 1, 0)  # linger for no time: close() sends RST


@dataclass
class Flow:
    """What came from one side so far."""

    total: int = 0
    recent: bytearray = field(default_factory=bytearray)

    def add(self, chunk: bytes) -> None:
        """Count and remember a chunk."""
        self.total += len(chunk)
        self.recent += chunk
        if len(self.recent) > 2 * REMEMBERED:
            del self.recent[:-REMEMBERED]


@dataclass
class Trigger:
    """Cut the connection in which these bytes come from that side."""

    data: bytes
    direction: Direction
    forward: bool
    answered: int
    strands: bool = False
    answer: bytes = b""  # what the client gets in the server's place; the connection lives on


class Link:
    """One client's connection and its counterpart to the target."""

    def __init__(self, proxy: "Proxy", client: socket.socket) -> None:
        """Start to forward; connecting to the target may take its time, so it is done by the link's own thread."""
        self.proxy, self.client, self.server = proxy, client, socket.socket()
        self.dead = self.doomed = False
        self.answered = 0  # bytes of the answer that a doomed link still delivers
        self.threads = [
            threading.Thread(target=self._from_client, daemon=True),
            threading.Thread(target=self._pump, args=("server", self.server, client), daemon=True),
        ]
        self.threads[0].start()

    def _from_client(self) -> None:
        try:
            self.server.settimeout(10)
            self.server.connect(self.proxy.target)
            self.server.settimeout(None)
            self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # nobody there: the client sees its connection closed
            self.dead = True
        if self.dead:
            self.end()
            self._close()
            return
        self.threads[1].start()
        self._pump("client", self.client, self.server)
        self.threads[1].join()
        self._close()

    def _pump(self, direction: Direction, source: socket.socket, target: socket.socket) -> None:
        tail = b""
        try:
            while chunk := source.recv(CHUNK):
                if not self._pass(direction, chunk, tail, target):
                    return
                tail = (tail + chunk)[-256:]
            if self.proxy._admit(self):
                target.shutdown(socket.SHUT_WR)
        except OSError:  # one side reset its connection (or it was cut here): so does the other
            self.end()

    def _pass(self, direction: Direction, chunk: bytes, tail: bytes, target: socket.socket) -> bool:
        """Forward a chunk unless it is to be lost; return whether the connection goes on."""
        if not self.proxy._admit(self):
            return False
        if self.doomed and direction == "server":  # the answer proves that the server worked on the last chunk
            if self.answered:
                target.sendall(chunk[: self.answered])
            self.end(gently=self.client if self.answered else self.server)
            return False
        trigger = self.proxy._pull(direction, chunk, tail)
        if trigger and trigger.answer:
            self.client.sendall(trigger.answer)
            return True
        if trigger and trigger.strands:
            self.client.shutdown(socket.SHUT_RDWR)
            return False
        if trigger and not trigger.forward:
            self.end()
            return False
        if trigger and direction == "client":
            self.doomed, self.answered = True, trigger.answered
        self.proxy._record(direction, chunk)
        target.sendall(chunk)
        if trigger and direction == "server":
            self.end(gently=self.client)
        return not self.dead

    def end(self, gently: socket.socket | None = None) -> None:
        """Make both sockets close with RST, or one with FIN, so that its peer gets what was sent before."""
        self.dead = True
        for end in (self.client, self.server):
            # The peer may have closed it already. SHUT_RD sends nothing, it only wakes the thread that receives.
            with contextlib.suppress(OSError):
                if end is not gently:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD)
        self.proxy._wake()

    def finish(self) -> None:
        """Wait until the link is closed."""
        self.threads[0].join(0.2)
        if self.threads[0].is_alive():  # it is blocked in sending to somebody who doesn't read
            for end in (self.client, self.server):
                with contextlib.suppress(OSError):  # closed meanwhile
                    end.shutdown(socket.SHUT_RDWR)
            self.threads[0].join(10)

    def _close(self) -> None:
        self.client.close()
        self.server.close()
        self.proxy._forget(self)


class Proxy:
    """A TCP proxy on a port of its own in front of a target that can be changed."""

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int) -> None:
        """Listen at once."""
        self.target = (target_host, target_port)
        self.connections = 0
        self._flows: dict[Direction, Flow] = {"client": Flow(), "server": Flow()}
        self._links: set[Link] = set()
        self._triggers: list[Trigger] = []
        self._held = self._refusing = self._closing = False
        self._changed = threading.Condition()
        self._listener = socket.create_server((self.host, 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept_all, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        """Listen already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close everything."""
        self.close()

    def close(self) -> None:
        """Cut all connections and stop listening."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(OSError):  # Linux's accept() ends
            self._listener.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            pass  # only wakes accept() elsewhere; that it may be too late for it is no harm
        self._acceptor.join()
        self._listener.close()
        self.cut()

    def retarget(self, host: str, port: int) -> None:
        """Send new connections to another target; present ones stay (see cut)."""
        self.target = (host, port)

    def cut(self) -> None:
        """Reset all connections now."""
        with self._changed:
            links = list(self._links)
        for link in links:
            link.end()
        for link in links:
            link.finish()

    def cut_when(self, data: bytes, direction: Direction = "client", forward: bool = False, answered: int = 0) -> None:
        """Cut one connection, once, when these bytes come from that side.

        Without `forward` the chunk with them is lost. With it the chunk is delivered: one from the client is answered
        by the server, and the connection is cut in place of delivering the answer, or after so many bytes of it.
        """
        with self._changed:
            self._triggers.append(Trigger(data, direction, forward, answered))

    def strand_when(self, data: bytes) -> None:
        """Close the client's side of one connection, once, when these bytes come from it: the server hears nothing."""
        with self._changed:
            self._triggers.append(Trigger(data, "client", forward=False, answered=0, strands=True))

    def hold(self) -> None:
        """Forward nothing, but keep all connections and accept new ones."""
        self._held = True

    def release(self) -> None:
        """Forward again, beginning with what was held."""
        self._held = False
        self._wake()

    def refuse(self) -> None:
        """Reset new connections at once."""
        self._refusing = True

    def accept(self) -> None:
        """Take new connections again; those that came before have been reset."""
        if self._refusing:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 5) as last:
                last.recv(1)  # it is reset after all that wait in the queue before it
        self._refusing = False

    @property
    def bytes_from_client(self) -> int:
        """How many bytes went through to the server."""
        return self._flows["client"].total

    @property
    def bytes_from_server(self) -> int:
        """How many bytes went through to the client."""
        return self._flows["server"].total

    def seen(self, direction: Direction) -> bytes:
        """Return what went through from that side, of all connections (of very much, the end)."""
        with self._changed:
            return bytes(self._flows[direction].recent)

    def wait_for(self, data: bytes, direction: Direction = "client", timeout: float = 5) -> bool:
        """Wait until these bytes went through from that side; return whether they did in time."""
        with self._changed:
            return self._changed.wait_for(lambda: data in self._flows[direction].recent, timeout)

    def clear(self) -> None:
        """Forget what was seen and counted, and cuts that were not triggered."""
        with self._changed:
            self._flows = {"client": Flow(), "server": Flow()}
            self._triggers.clear()
            self.connections = 0

    def _accept_all(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            if self._closing or self._refusing:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.connections += 1
                self._links.add(Link(self, client))

    def _admit(self, link: Link) -> bool:
        """Wait while the proxy holds; return whether the link still lives."""
        with self._changed:
            self._changed.wait_for(lambda: link.dead or not self._held)
        return not link.dead

    def _pull(self, direction: Direction, chunk: bytes, tail: bytes) -> Trigger | None:
        """Return and remove the trigger that the chunk fires; its bytes may have begun in the chunk before."""
        with self._changed:
            for trigger in self._triggers:
                begun = tail[len(tail) - min(len(tail), len(trigger.data) - 1) :]
                if trigger.direction == direction and trigger.data in begun + chunk:
                    self._triggers.remove(trigger)
                    return trigger
        return None

    def _record(self, direction: Direction, chunk: bytes) -> None:
        with self._changed:
            self._flows[direction].add(chunk)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _forget(self, link: Link) -> None:
        with self._changed:
            self._links.discard(link)
