"""Take the pictures of traces: ``python docs/pictures/traces.py``, with a Jaeger that runs on this machine.

It runs the demo's first app, the app of the page on leaks, and two requests that share a pool of one connection. Each
writes a file that Jaeger's UI opens by Upload. Chromium takes a picture of one trace each; Playwright has to be
installed besides. No test runs it: pictures are looked at.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import jaeger  # noqa: E402
import stage  # noqa: E402
from receiver import Receiver  # noqa: E402

JAEGER = os.environ.get("JAEGER", "http://127.0.0.1:16686")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SERVERS = [sys.executable, "-m", "servers", "--", "opentelemetry-instrument", sys.executable]
WAITING = """
import os, threading
from opentelemetry import context, trace
from psycopg_pool import ConnectionPool

tracer = trace.get_tracer("shop")
first_has_it = threading.Event()


def request(parent, name):
    context.attach(parent)
    with tracer.start_as_current_span(name), pool.connection() as connection:
        first_has_it.set()
        connection.execute("SELECT pg_sleep(0.3)")


with ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=1, name="orders") as pool:
    pool.wait()
    with tracer.start_as_current_span("two requests, a pool of one connection"):
        here = context.get_current()
        threads = [threading.Thread(target=request, args=(here, name)) for name in ("GET /first", "GET /second")]
        for thread in threads:
            thread.start()
            first_has_it.wait()
        for thread in threads:
            thread.join()
"""


def main() -> None:
    """Run the apps and take the pictures."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([sys.executable, str(ROOT / "examples" / "demo.py")], folder)
        page = (ROOT / "docs" / "how-to" / "finding-a-leak.md").read_text()
        (shop,) = re.findall(r"<!-- shop.py -->\n```python\n(.*?)```", page, re.DOTALL)
        shop = shop.replace('os.environ["DATABASE_URL"]', '"postgresql+psycopg://"')  # PGHOST and the like lead there
        shop = shop.replace('    orders("acme")', '    engine.connect().close()\n    orders("acme")')  # its own set-up
        record(shop, "shop", folder)
        record(WAITING, "shop", folder, "waiting")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            take(browser, "failover.png", folder / "demo-trace.json", "failover", 725)
            take(browser, "leak.png", folder / "shop.json", "session_state.leak", 620, details)
            take(browser, "pool-wait.png", folder / "waiting.json", "GET /second", 520)
            browser.close()


def run(command: list[str], folder: Path, **variables: str) -> None:
    """Run an app in a folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **variables, "PATH": path, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, cwd=folder, check=True)


def record(code: str, service: str, folder: Path, name: str = "") -> None:
    """Run a program of its own on a pair of servers, and write its spans into a file."""
    file = folder / f"{name or service}.py"
    file.write_text(code)
    with Receiver() as receiver:
        run([*SERVERS, str(file)], folder, **stage.environment(receiver.url, service))
        file.with_suffix(".json").write_text(jaeger.document(receiver.spans()))


def take(
    browser: Any, name: str, file: Path, operation: str, height: int, then: Callable[[Any], None] | None = None
) -> None:
    """Upload a file of traces, open the one that has such a span, and take its picture."""
    traces = json.loads(file.read_text())["data"]
    trace = next(each for each in traces if any(span["operationName"] == operation for span in each["spans"]))
    page = browser.new_page(viewport={"width": 1400, "height": height})
    page.goto(f"{JAEGER}/search")
    page.get_by_text("Upload", exact=True).first.click()
    page.locator("input[type=file]").first.set_input_files(str(file))
    page.locator(f"a[href*='{trace['traceID']}']").first.click()
    page.wait_for_selector(".span-name")
    if then:
        then(page)
    page.wait_for_timeout(1000)
    page.screenshot(path=str(HERE / name))
    page.close()


def details(page: Any) -> None:
    """Open the details of the leak, with its links."""
    page.locator(".span-name", has_text="session_state.leak").first.click()
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
