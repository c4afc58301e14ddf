"""Each driver that blocks with a cluster of its database, and a proxy before the primary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from servers import Proxy

from .sides import KINDS, Side


class Holding(Proxy):
    """A proxy that stops forwarding as soon as a client sends certain bytes: they arrive, and no answer does."""

    hold_at = b""
    hold_after: tuple[bytes, bytes] | None = None  # the first time that the second is sent after the first
    holds = False

    def _pull(self, direction: Any, chunk: bytes, tail: bytes) -> Any:
        if self.hold_after and direction == "client" and self.hold_after[0] in chunk:
            self.hold_at, self.hold_after = self.hold_after[1], None
        if self.hold_at and direction == "client" and self.hold_at in chunk:
            self.hold()
            self.holds = True
        return super()._pull(direction, chunk, tail)


@pytest.fixture(params=KINDS)
def side(request: pytest.FixtureRequest) -> Side:
    try:
        return Side(request.param)
    except ImportError as error:
        pytest.skip(f"{request.param} is not installed, or can only be loaded first (`python -m tests`): {error}")


@pytest.fixture
def cluster(side: Side, request: pytest.FixtureRequest) -> Any:
    """Return a healthy primary and its standby."""
    running = request.getfixturevalue(side.servers)
    running.restore()
    return running


@pytest.fixture
def proxy(cluster: Any) -> Iterator[Holding]:
    with Holding(cluster.primary.host, cluster.primary.port) as proxy:
        yield proxy
