"""What both stories of `make demo` need: progress on the terminal, the app in its process, signals, the last words.

It starts apps under ``opentelemetry-instrument``, with their telemetry sent to the demo, and stops them. It knows no
story.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from report import style

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTED = time.monotonic()


def progress(text: str, *styles: str) -> None:
    """Print what is going on, and when."""
    print(style(f"{time.monotonic() - STARTED:5.1f} s  ", "dim") + style(text, *styles), flush=True)


def section(title: str, lines: Iterator[str]) -> None:
    """Print a heading and its lines, if there are any."""
    if text := "\n".join(lines):
        print(f"\n{style(title, 'bold')}\n\n{text}")


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program as a user would, and kill it if we have to leave before it ends."""
    instrument = Path(sysconfig.get_path("scripts"), "opentelemetry-instrument")
    app = None
    try:
        with undisturbed():
            app = subprocess.Popen(
                [sys.executable, str(instrument), sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for us
            )
        yield app
    finally:
        if app:
            app.kill()
            app.wait()


def environment(endpoint: str, service: str, **variables: str) -> dict[str, str]:
    """Return an app's environment: ours, with the telemetry sent to us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PG"))}
    return kept | {
        "OTEL_SERVICE_NAME": service,
        # Of other instrumentations only that of the web framework: the spans of statements are ours.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "psycopg,sqlalchemy",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "no_proxy": ",".join(filter(None, [urllib.request.getproxies().get("no"), "127.0.0.1"])),
        **variables,
    }


class Stopped(SystemExit):
    """A signal told us to stop; an exception, so that every `with` is left properly."""


def perform(main: Callable[[], int]) -> None:
    """Run a story and exit with its code; on a signal stop what it started."""
    for each in SIGNALS:
        signal.signal(each, _stop)
    try:
        sys.exit(main())
    except Stopped:
        print("\nstopped; nothing is left running")
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave once: a second signal would disturb the cleaning up."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back for a moment: what is just being started must be known to be stopped."""
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, frame: came.append(number)) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in came[:1]:
            signal.raise_signal(number)
