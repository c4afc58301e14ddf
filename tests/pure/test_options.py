"""Every option by each of its three ways, every bad value, and which source wins."""

from __future__ import annotations

import math
import pickle
from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumented_wrapper import ConfigurationError
from instrumented_wrapper.options import PREFIX, Options, from_environment, take_keywords
from instrumented_wrapper.supported import driver_names

DRIVERS = driver_names()

BOOLEANS = ["reset_session_state_on_close", "transfer_session_state_on_switch", "traces", "metrics", "capture_values"]
BOOLEANS += ["connect_spans"]
SWITCHES = ["failover", "query_spans", "transaction_spans"]
TRUE = ["true", "TRUE", "True", "1", "on", "ON", "yes", "Yes", " true ", True, 1]
FALSE = ["false", "FALSE", "0", "off", "Off", "no", "NO", " false", False, 0]
NO_BOOLEAN = ["", "maybe", "2", "tru", "on off", "none", 2, -1, 1.5, None, [], {}, "auto"]

# option, what the user writes, what it means
VALUES = [
    *((name, value, True) for name in BOOLEANS for value in TRUE),
    *((name, value, False) for name in BOOLEANS for value in FALSE),
    *((name, value, "on") for name in SWITCHES for value in TRUE),
    *((name, value, "off") for name in SWITCHES for value in FALSE),
    *((name, value, "auto") for name in SWITCHES for value in ("auto", "AUTO", " auto ")),
    ("failover_timeout", "15", 15.0),
    ("failover_timeout", " 0.5 ", 0.5),
    ("failover_timeout", 3, 3.0),
    ("failover_timeout", "1e3", 1000.0),
    ("detection_timeout", "0", 0.0),
    ("detection_timeout", 0, 0.0),
    ("detection_timeout", "2.5", 2.5),
    ("resolve_commits", "on", True),
    ("probe_after", "off", 0.0),
    ("probe_after", "OFF", 0.0),
    ("probe_after", False, 0.0),
    ("probe_after", "0", 0.0),
    ("probe_after", " 2.5 ", 2.5),
    ("probe_after", 10, 10.0),
    ("reset_on_return", "auto", "auto"),
    ("reset_on_return", "Report", "report"),
    ("reset_on_return", "CLOSE", "close"),
    ("reset_on_return", True, "on"),
    ("reset_on_return", "no", "off"),
    ("reset_scope", "settings", "settings"),
    ("reset_scope", "SESSION", "session"),
    ("query_text", "auto", "auto"),
    ("query_text", "Sanitized", "sanitized"),
    ("query_text", "off", "off"),
    ("pooler", "auto", "auto"),
    ("pooler", "Transaction", "transaction"),
    ("pooler", "session", "session"),
    ("metrics_without", "namespace", ("namespace",)),
    ("metrics_without", " Summary , namespace,summary", ("namespace", "summary")),
    ("drivers", "psycopg", ("psycopg",)),
    ("drivers", " psycopg , sqlite3 ", ("psycopg", "sqlite3")),
    ("drivers", ",".join(DRIVERS), DRIVERS),
    ("failover_hosts", "a", (("a", None),)),
    ("failover_hosts", "a:1, b:65535", (("a", 1), ("b", 65535))),
    ("failover_hosts", "10.0.0.1:5432", (("10.0.0.1", 5432),)),
    ("failover_hosts", "[::1]:5432,[::2]", (("::1", 5432), ("::2", None))),
    ("failover_hosts", "::1", (("::1", None),)),
    ("failover_hosts", "/run/postgresql", (("/run/postgresql", None),)),
]

# Python values that only keywords can carry.
PYTHON_VALUES = [
    ("drivers", ["psycopg"], ("psycopg",)),
    ("drivers", ("psycopg", "MySQLdb"), ("psycopg", "MySQLdb")),
    ("metrics_without", ["summary"], ("summary",)),
    ("metrics_without", (), ()),
    ("metrics_without", "", ()),
    ("failover_hosts", ["a:1", "b"], (("a", 1), ("b", None))),
    ("failover_hosts", [("a", 1), ("b", None)], (("a", 1), ("b", None))),
    ("failover_hosts", [], ()),
    ("failover_timeout", 2.5, 2.5),
]

BAD_TEXTS = [
    *((name, value) for name in BOOLEANS for value in NO_BOOLEAN if isinstance(value, str) and value),
    *((name, value) for name in SWITCHES for value in ("maybe", "2", "autoo", "none")),
    *(("failover_timeout", value) for value in ("0", "-1", "nan", "inf", "-inf", "soon", "1s", "0.0", "1e999", "true")),
    *(("probe_after", value) for value in ("-1", "nan", "inf", "on", "true", "soon", "1s")),
    *(("reset_on_return", value) for value in ("reset", "closed", "2")),
    *(("reset_scope", value) for value in ("all", "setting", "true")),
    *(("pooler", value) for value in ("none", "statement", "true")),
    *(("metrics_without", value) for value in ("schema", "namespace;summary", "summaries,namespace", "true")),
    *(("query_text", value) for value in ("on", "true", "raw")),
    *(("drivers", value) for value in ("oracle", "psycopg;sqlite3", "psycopg,nothing", ",", "PSYCOPG")),
    *(("failover_hosts", value) for value in ("a:b", "a:0", "a:65536", "a:-1", ":5432", "a:", "[::1", "[::1]5432")),
    *(("failover_hosts", value) for value in ("[]", "[::1]:", "a:1:b", "a b:1x")),
    ("no_such_option", "1"),
]

BAD_PYTHON = [
    *((name, value) for name in BOOLEANS for value in NO_BOOLEAN),
    *((name, value) for name in SWITCHES for value in (None, 2, [], 1.5, "")),
    *(("failover_timeout", value) for value in (0, -1, math.nan, math.inf, -math.inf, None, True, [], "")),
    *(("probe_after", value) for value in (-1, math.nan, math.inf, None, True, [], "")),
    *(("reset_on_return", value) for value in (None, 2, [], "")),
    *(("reset_scope", value) for value in (None, 1, [], "")),
    *(("metrics_without", value) for value in (None, 1, True, [1], ["schema"], {"namespace": 1})),
    *(("drivers", value) for value in (None, [], 1, ["oracle"], [1], "")),
    *(("failover_hosts", value) for value in (1, [1], [("a",)], [("a", 0)], [("a", "x")], [("a", 1, 2)], [("", 1)])),
    *(("failover_hosts", value) for value in ([None], [("a", math.inf)], [["a", []]], {"a": 1}, True)),
    pytest.param("failover_timeout", 10**400, id="failover_timeout-huge"),
    ("enabled", True),
    ("sources", {}),
    ("", 1),
    ("Failover", "on"),
]


def variable(option: str) -> str:
    return PREFIX + option.upper()


@pytest.mark.parametrize(("option", "given", "meant"), VALUES)
def test_by_environment(option, given, meant):
    options = from_environment({variable(option): str(given)})
    assert getattr(options, option) == meant
    assert options.sources == {option: variable(option)}


@pytest.mark.parametrize(("option", "given", "meant"), VALUES + PYTHON_VALUES)
def test_by_keyword(option, given, meant):
    options = Options().with_keywords({option: given}, "instrument()")
    assert getattr(options, option) == meant
    assert type(getattr(options, option)) is type(meant)
    assert options.sources == {option: "instrument()"}


OF_THE_PROCESS = {"drivers": f"{PREFIX}DRIVERS", "enabled": f"{PREFIX}ENABLED"}


@pytest.mark.parametrize("option", OF_THE_PROCESS)
@pytest.mark.parametrize("given", ["psycopg", "true", None])
def test_what_is_of_the_process_is_no_option_of_one_connection(option, given):
    with pytest.raises(ConfigurationError) as caught:
        Options().with_keywords({option: given}, "connect")
    assert (caught.value.name, caught.value.value) == (option, given)
    assert OF_THE_PROCESS[option] in str(caught.value)


@pytest.mark.parametrize(("option", "given", "meant"), VALUES + PYTHON_VALUES)
def test_by_connect(option, given, meant):
    if option in OF_THE_PROCESS:
        return
    keywords = {"host": "h", "instrumented_wrapper": {option: given}}
    options = Options().with_keywords(take_keywords(keywords), "connect")
    assert getattr(options, option) == meant
    assert keywords == {"host": "h"}


@pytest.mark.parametrize(("option", "given"), BAD_TEXTS)
def test_bad_environment(option, given):
    with pytest.raises(ConfigurationError) as caught:
        from_environment({variable(option): given})
    assert variable(option) in str(caught.value)
    assert repr(given) in str(caught.value)


@pytest.mark.parametrize(("option", "given"), BAD_TEXTS + BAD_PYTHON)
def test_bad_keyword(option, given):
    with pytest.raises(ConfigurationError) as caught:
        Options().with_keywords({option: given}, "instrument()")
    assert isinstance(caught.value, ValueError)
    assert (caught.value.name, caught.value.accepted) == (option, caught.value.accepted)
    assert (
        option in str(caught.value) and repr(given) in str(caught.value) and caught.value.accepted in str(caught.value)
    )


def test_the_accepted_values_are_named():
    wanted = {"failover": "auto", "reset_scope": "session", "traces": "yes/no", "drivers": "psycopg", "x": "failover"}
    for option, word in wanted.items():
        with pytest.raises(ConfigurationError) as caught:
            Options().with_keywords({option: "bad"}, "instrument()")
        assert word in caught.value.accepted


@pytest.mark.parametrize(
    ("given", "nearest"), [("query_txt", "query_text"), ("failover_host", "failover_hosts"), ("foo", None)]
)
def test_an_unknown_name_gets_the_nearest_one(given, nearest):
    with pytest.raises(ConfigurationError) as keyword:
        Options().with_keywords({given: "x"}, "connect")
    with pytest.raises(ConfigurationError) as environment:
        from_environment({variable(given): "x"})
    first = f"expected {nearest}, or another of the options " if nearest else "expected one of the options "
    assert first in str(keyword.value)
    first = (
        f"expected {variable(nearest)}, or another of the variables " if nearest else "expected one of the variables "
    )
    assert first in str(environment.value)


def test_every_option_is_tried_here():
    tried = {option for option, _, _ in VALUES}
    assert tried == {option.name for option in fields(Options)} - {"sources", "enabled"}


def test_an_empty_environment_has_the_documented_defaults():
    options = from_environment({})
    assert options == Options()
    assert options.sources == {}
    assert (options.failover, options.failover_timeout, options.reset_scope) == ("auto", 60.0, "settings")
    assert options.reset_session_state_on_close and options.transfer_session_state_on_switch
    assert options.traces and options.metrics and not options.capture_values
    assert options.drivers == DRIVERS and options.failover_hosts == () and options.query_spans == "auto"


@pytest.mark.parametrize("empty", ["", " ", "\t"])
@pytest.mark.parametrize("option", [option for option, _, _ in VALUES])
def test_an_empty_variable_is_none(option, empty):
    assert from_environment({variable(option): empty}) == Options()


def test_other_variables_are_not_ours():
    assert from_environment({f"{PREFIX}PG_BIN": "/pg", f"{PREFIX}MYSQL_BIN": "/mysql"}) == Options()
    assert from_environment({"PATH": "x", "OTEL_SDK_DISABLED": "maybe", "INSTRUMENTED": "x"}) == Options()


@pytest.mark.parametrize(
    ("given", "meant"), [("false", False), ("0", False), ("off", False), ("on", True), ("YES", True)]
)
def test_enabled_is_for_the_environment_only(given, meant):
    assert from_environment({f"{PREFIX}ENABLED": given}).enabled is meant


def test_the_strongest_source_wins():
    environment = {variable("traces"): "false", variable("metrics"): "false", variable("failover"): "off"}
    of_call = from_environment(environment).with_keywords({"metrics": True, "failover": "on"}, "instrument()")
    options = of_call.with_keywords({"failover": "auto"}, "connect")
    assert (options.traces, options.metrics, options.failover) == (False, True, "auto")
    assert options.sources == {
        "traces": variable("traces"),
        "metrics": "instrument()",
        "failover": "connect",
    }


def test_options_do_not_change():
    options = Options()
    with pytest.raises(AttributeError):
        options.failover = "off"  # type: ignore[misc]
    with pytest.raises(TypeError):
        options.sources["failover"] = "me"  # type: ignore[index]
    options.with_keywords({"failover": "off"}, "connect")
    assert options.failover == "auto"


def test_one_bad_keyword_changes_nothing():
    with pytest.raises(ConfigurationError):
        Options().with_keywords({"failover": "off", "traces": "maybe"}, "connect")


def test_only_our_keywords_are_taken():
    theirs = {"host": "h", "failover": {"mysql": 1}, "autocommit": True, "traces": "x", "failover_timeout": 3}
    keywords = {**theirs, "reset_session_state_on_close": False, "transfer_session_state_on_switch": "no"}
    taken = take_keywords(keywords)
    assert taken == {"reset_session_state_on_close": False, "transfer_session_state_on_switch": "no"}
    assert keywords == theirs


def test_nothing_is_taken_where_nothing_is_ours():
    keywords = {"host": "h"}
    assert take_keywords(keywords) == {}
    assert keywords == {"host": "h"}


def test_a_seed_name_beats_the_bag():
    keywords = {"instrumented_wrapper": {"reset_session_state_on_close": True}, "reset_session_state_on_close": False}
    assert take_keywords(keywords) == {"reset_session_state_on_close": False}


def test_the_app_keeps_its_bag():
    bag = {"failover": "off"}
    take_keywords({"instrumented_wrapper": bag, "reset_session_state_on_close": True})
    assert bag == {"failover": "off"}


@pytest.mark.parametrize("bag", [True, "failover=off", [("failover", "off")], 1, None])
def test_the_bag_is_a_mapping(bag):
    with pytest.raises(ConfigurationError, match="instrumented_wrapper"):
        take_keywords({"instrumented_wrapper": bag})


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
NESTED = st.one_of(ANYTHING, st.lists(ANYTHING), st.dictionaries(st.text(), ANYTHING), st.tuples(ANYTHING, ANYTHING))


@given(st.sampled_from([option.name for option in fields(Options)]), NESTED)
def test_any_value_is_accepted_or_a_configuration_error(option, value):
    with suppress(ConfigurationError):
        Options().with_keywords({option: value}, "connect")


@given(st.dictionaries(st.sampled_from([variable(option.name) for option in fields(Options)]), st.text()))
def test_any_environment_is_accepted_or_a_configuration_error(environment):
    with suppress(ConfigurationError):
        from_environment(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failover_hosts", "postgresql://u:hunter2@host"),
        ("failover_hosts", "a, mysql://u:hunt,hunter2@er2@host:5432/db"),
        ("failover_hosts", "u:hunter2@host:5432"),
        ("failover_hosts", "u:hunter2@host"),
        ("failover_hosts", "host=a password=hunter2"),
        ("failover_hosts", "host=a password='hunt hunter2'"),
        ("failover_hosts", "host?user=u&password=hunter2"),
        ("failover_hosts", ["b", "postgresql://u:hunter2@host"]),
        ("failover_hosts", [("u:hunter2@host", 5432)]),
        ("failover_hosts", {"host": "a", "passwd": "hunter2"}),
        ("failover_hosts", b"postgresql://u:hunter2@host"),
        ("failover", "postgresql://u:hunter2@host"),
        ("failover_timeout", {"Password": "hunter2"}),
        ("drivers", ["psycopg://u:hunter2@host"]),
        ("traces", "u:hunter2@host"),
        ("query_text", "https://u:hunter2@host"),
        ("password", "hunter2"),
        ("API_KEY", "hunter2"),
    ],
)
def test_no_password_is_in_the_error(name, value):
    with pytest.raises(ConfigurationError) as caught:
        Options().with_keywords({name: value}, "test")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert "hunter2" not in f"{error} {error!r} {vars(error)}"
        assert str(error).startswith(f"{name}=")
    with pytest.raises(ConfigurationError) as caught:
        from_environment({f"INSTRUMENTED_WRAPPER_{name.upper()}": str(value)})
    assert "hunter2" not in f"{caught.value} {caught.value!r}"


def test_no_password_is_in_the_error_about_what_is_no_mapping():
    with pytest.raises(ConfigurationError) as caught:
        take_keywords({"instrumented_wrapper": "postgresql://u:hunter2@host"})
    assert str(caught.value).startswith("instrumented_wrapper='postgresql://***@host' cannot be used")
