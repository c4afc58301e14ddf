"""Runs ``app.py`` with a span around each order, as the instrumentation of a web framework makes it in a real app.

The app itself stays as it is: what it does in its database becomes part of that trace by itself.

    DATABASE_URL="host=one,two dbname=..." opentelemetry-instrument python served.py 10
"""

import sys
from typing import Any

import app
from opentelemetry import trace

tracer = trace.get_tracer("orders")
take = app.take


def serve(connection: Any, number: int) -> None:
    """Take one order within a span."""
    with tracer.start_as_current_span("POST /orders", kind=trace.SpanKind.SERVER):
        take(connection, number)


app.take = serve

if __name__ == "__main__":
    app.main(int(sys.argv[1]))
