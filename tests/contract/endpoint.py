"""Proxies that act as soon as a client sends certain bytes: end or hold connections, demote the server."""

from typing import Any

from servers import Proxy
from servers.proxy import Trigger


class Endpoint(Proxy):
    """One before a server: `hits` counts how often the bytes came."""

    ends_at = holds_at = b""
    spares, times, hits = 0, 10**6, 0
    then_holds_at: tuple[bytes, bytes] | None = None  # once the first has come, hold at the second

    def _pull(self, direction: Any, chunk: bytes, tail: bytes) -> Trigger | None:
        if self.then_holds_at and direction == "client" and self.then_holds_at[0] in chunk:
            self.holds_at, self.then_holds_at = self.then_holds_at[1], None
        wanted = self.ends_at or self.holds_at
        if wanted and direction == "client" and wanted in chunk:
            self.hits += 1
            if self.spares < self.hits <= self.spares + self.times:
                if self.ends_at:
                    return Trigger(wanted, "client", forward=False, answered=0)
                self.hold()
        return super()._pull(direction, chunk, tail)


class DemotedAtEachWrite(Proxy):
    """One before a server that is a primary to each new connection, and is demoted when that one writes."""

    def __init__(self, site: Any) -> None:
        super().__init__(site.cluster.primary.host, site.cluster.primary.port)
        self._site, self._promoted, self.writes = site, 0, 0

    def _pull(self, direction: Any, chunk: bytes, tail: bytes) -> Trigger | None:
        if direction == "client" and self.connections > self._promoted:
            self._promoted = self.connections
            self._site.takes_writes(True)
        if direction == "client" and b"INSERT INTO" in chunk:
            self.writes += 1
            self._site.takes_writes(False)
            if refusal := self._site.refusal:
                return Trigger(b"", "client", forward=False, answered=0, answer=refusal)
        return super()._pull(direction, chunk, tail)
