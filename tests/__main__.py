"""All tests, or those that are named: ``python -m tests`` does what ``python -m pytest`` does, and one thing before it.

The C extension of mysql-connector brings an OpenSSL of its own. Where the system's is older, it can only be loaded
before anything has loaded that one, and pytest does so (``hashlib``).
"""

import contextlib
import sys

with contextlib.suppress(ImportError):  # not installed, or not for this machine: its tests are skipped, and say so
    import _mysql_connector  # noqa: F401

import pytest

sys.exit(pytest.main())
