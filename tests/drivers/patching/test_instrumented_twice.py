"""A second ``instrument()`` patches nothing, and says which of its arguments it ignores."""

import pytest

from ..script import complete

APP = """
    import logging, sys
    import instrumented_wrapper
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    instrumented_wrapper.instrument(drivers="sqlite3")
    instrumented_wrapper.instrument(**eval(sys.argv[1]))
"""
CALLS = {
    "{}": "none",
    "{'tracer_provider': object()}": "tracer_provider",
    "{'meter_provider': object()}": "meter_provider",
    "{'drivers': 'psycopg', 'failover': 'on', 'traces': False}": "failover, traces, drivers",
    "{'tracer_provider': object(), 'meter_provider': object(), 'failover_hosts': None}": (
        "tracer_provider, meter_provider, failover_hosts"
    ),
}


@pytest.mark.parametrize(("given", "ignored"), CALLS.items(), ids=range(len(CALLS)))
def test_what_is_ignored_is_named(given: str, ignored: str) -> None:
    said = complete(APP, given)
    assert said == f"instrument() was called again: nothing is patched twice; options ignored: {ignored}"
