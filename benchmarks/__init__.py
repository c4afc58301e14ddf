"""Measure the cost of instrumentation: ``python -m benchmarks`` compares bare and instrumented psycopg in one run."""

import contextlib

with contextlib.suppress(ImportError):  # before anything loads the system's OpenSSL, as in `tests`
    import _mysql_connector  # noqa: F401
