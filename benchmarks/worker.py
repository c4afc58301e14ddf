"""A process of its own in which one side of a comparison runs: bare or instrumented psycopg.

Patches are process-wide, so the two sides cannot share a process. It runs a case on request;
it does not know the comparison.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import cases, heartbeats, herd, losses, returns, statements
from benchmarks.sides import prepare

__all__ = ["Worker"]

CASES: Final = {
    "herd": herd.herd,
    **losses.LOSSES,
    **heartbeats.CASES,
    **cases.CASES,
    **statements.CASES,
    **returns.CASES,
}
_SPAWN: Final = get_context("spawn")  # nothing inherited: each side imports for itself


class Worker:
    """The handle of a worker process.

    Args:
        kind: one of `benchmarks.sides`.
        tree: a work tree of another commit, whose package is measured; None: this one's.
    """

    def __init__(self, kind: str, tree: Path | None = None) -> None:
        self.kind = kind
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(theirs, kind), daemon=True)
        self._others = ExitStack()
        with nullcontext() if tree is None else _searched_first(self._others.enter_context(_package_of(tree))):
            self._process.start()
        theirs.close()

    def open(self, case: str, dsn: str) -> None:
        """Set up a case, in place of the last one."""
        self._ask("open", case, dsn)

    def round(self, number: int) -> float:
        """Run a round of the case; return what it measured."""
        return float(self._ask("round", number))

    def start(self, number: int) -> None:
        """Start a round; its `result` must be asked for."""
        self._pipe.send(("round", number))

    def result(self) -> Any:
        """Return what a round measured, or raise what it raised."""
        succeeded, value = self._pipe.recv()
        if not succeeded:
            raise RuntimeError(f"the {self.kind} side failed: {value}")
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.send(("end",))
        self._process.join()
        self._pipe.close()
        self._others.close()

    def _ask(self, *message: Any) -> Any:
        self._pipe.send(message)
        return self.result()


@contextmanager
def _package_of(tree: Path) -> Iterator[str]:
    """Give a folder that has the package of another work tree, and nothing else of it."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "instrumented_wrapper").symlink_to(tree.resolve() / "instrumented_wrapper")
        yield folder


@contextmanager
def _searched_first(folder: str) -> Iterator[None]:
    """While inside, processes that are started look there first for what they import."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _work(pipe: Pipe, kind: str) -> None:
    prepare(kind)
    case = ExitStack()
    run: Any = None
    while (message := pipe.recv())[0] != "end":
        try:
            if message[0] == "open":
                case.close()
                run = case.enter_context(CASES[message[1]](message[2]))
            pipe.send((True, run(message[1]) if message[0] == "round" else None))
        except Exception as error:  # noqa: BLE001 - the other end is told, and fails
            pipe.send((False, f"{type(error).__name__}: {error}"))
    case.close()
