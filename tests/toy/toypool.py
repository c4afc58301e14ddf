"""A small pool over any DB-API driver. Knows nothing of instrumented_wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Pool:
    def __init__(self, connect: Callable[[], Any]) -> None:
        self.idle = [connect()]

    def take(self) -> Any:
        return self.idle.pop()

    def give_back(self, connection: Any) -> None:
        self.idle.append(connection)
