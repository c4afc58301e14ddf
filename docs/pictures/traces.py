"""Take the pictures of traces: ``python docs/pictures/traces.py``, with a Jaeger that runs on this machine.

It runs the demo's first app, the app of the page on leaks, and two requests that share a pool of one connection. Their
spans go to that Jaeger by OTLP. Chromium takes a picture of one trace each; Playwright has to be installed besides.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JAEGER = os.environ.get("JAEGER", "http://127.0.0.1:16686")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
OTLP = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": os.environ.get("OTLP", "http://127.0.0.1:4318"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "psycopg,sqlalchemy,threading",
}
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
    with tracer.start_as_current_span("two requests, one connection"):
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

    run([sys.executable, str(ROOT / "examples" / "demo.py")], "orders")
    with tempfile.TemporaryDirectory() as folder:
        page = (ROOT / "docs" / "how-to" / "finding-a-leak.md").read_text()
        (shop,) = re.findall(r"<!-- shop.py -->\n```python\n(.*?)```", page, re.DOTALL)
        shop = shop.replace('os.environ["DATABASE_URL"]', '"postgresql+psycopg://"')  # PGHOST and the like lead there
        (Path(folder) / "shop.py").write_text(shop)
        (Path(folder) / "waiting.py").write_text(WAITING)
        run([*SERVERS, f"{folder}/shop.py"], "shop")
        run([*SERVERS, f"{folder}/waiting.py"], "pool")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        take(browser, "failover.png", trace_of("orders", "failover"), 725)
        take(browser, "leak.png", trace_of("shop", "session_state.leak"), 480, opened="session_state.leak")
        take(browser, "pool-wait.png", trace_of("pool", "GET /second"), 420)
        browser.close()


def run(command: list[str], service: str) -> None:
    """Run an app, whose spans are those of `service`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, **OTLP, "OTEL_SERVICE_NAME": service, "PATH": path, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=variables, cwd=tempfile.gettempdir(), check=True)


def trace_of(service: str, operation: str) -> str:
    """Return the id of the last trace of `service` that has such a span."""
    for _ in range(50):
        with urllib.request.urlopen(f"{JAEGER}/api/traces?service={service}&limit=100&lookback=10m") as answer:
            traces: list[dict[str, Any]] = json.load(answer)["data"] or []
        having = [each for each in traces if any(span["operationName"] == operation for span in each["spans"])]
        if having:
            return str(max(having, key=lambda each: each["spans"][0]["startTime"])["traceID"])
        time.sleep(0.2)
    raise SystemExit(f"no trace of {service} has a span {operation}")


def take(browser: Any, name: str, trace: str, height: int, opened: str = "") -> None:
    """Take the picture of a trace, with the details of one span where it is named."""
    page = browser.new_page(viewport={"width": 1400, "height": height})
    page.goto(f"{JAEGER}/trace/{trace}")
    page.wait_for_selector(".span-name")
    if opened:
        page.get_by_text(opened, exact=True).first.click()
        page.wait_for_timeout(500)
        for label in ("Tags", "Attributes", "References", "Links"):
            for each in page.get_by_text(label, exact=False).all()[:1]:
                each.click()
    page.wait_for_timeout(1000)
    page.screenshot(path=str(HERE / name))


if __name__ == "__main__":
    main()
