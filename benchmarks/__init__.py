"""What instrumentation costs: ``python -m benchmarks`` compares bare psycopg with psycopg under us, in one run."""

import contextlib

with contextlib.suppress(ImportError):  # before anything loads the system's OpenSSL, as in `tests`
    import _mysql_connector  # noqa: F401
