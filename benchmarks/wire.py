"""Count, with a proxy, the bytes that a clean checkout and return of a pool sends."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.pairs import workers
from benchmarks.sides import BARE, PLAIN
from servers import Cluster, Proxy

__all__ = ["wire_lines"]

_CHECKOUTS = 100


def wire_lines(cluster: Cluster) -> Iterator[str]:
    """Yield a sentence for each side."""
    primary = cluster.primary
    with Proxy(primary.host, primary.port) as proxy, workers(BARE, PLAIN) as sides:
        for side in sides:
            side.open("pool block", primary.dsn(host=proxy.host, port=proxy.port))
            before = proxy.bytes_from_client
            side.round(_CHECKOUTS)
            sent = proxy.bytes_from_client - before
            who = "bare" if side.kind == "bare" else "with us"
            yield f"bytes that {_CHECKOUTS} clean checkouts and returns of a pool send, {who}: {sent}"
