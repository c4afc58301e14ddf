"""What is installed and configured, judged without a connection: facts in, findings out."""

from __future__ import annotations

from typing import Any

import pytest

from instrumented_wrapper.doctor.checks import OTHER_DRIVERS, Facts, all_checks, variables
from instrumented_wrapper.doctor.findings import Finding, exit_code
from instrumented_wrapper.doctor.program import Program, judged
from instrumented_wrapper.options import from_environment
from instrumented_wrapper.supported import entries

INSTALLED = {"opentelemetry-sdk": "1.45", "opentelemetry-distro": "0.66", "psycopg": "3.3"}
DRIVERS = {"psycopg": ("3.3", "patched"), "pymysql": (None, "")}


def found(packages: dict[str, str] | None = None, environ: dict[str, str] | None = None, **facts: Any) -> list[Finding]:
    """Return what is not well, where nothing else is wrong."""
    environ = {"INSTRUMENTED_WRAPPER_FAILOVER": "off", **(environ or {})}
    given = {"drivers": DRIVERS, "missing_exporters": {}, **facts}
    all_facts = Facts(environ, {**INSTALLED, **(packages or {})}, **given)
    return [each for each in all_checks(all_facts, from_environment(environ)) if each.level != "ok"]


def test_nothing_is_wrong() -> None:
    assert found() == []


@pytest.mark.parametrize(("levels", "code"), [([], 0), (["ok"], 0), (["ok", "warning"], 1), (["broken", "warning"], 2)])
def test_exit_code(levels: list[Any], code: int) -> None:
    assert exit_code(Finding(level, "", "", "") for level in levels) == code


@pytest.mark.parametrize(
    ("name", "value", "level", "words"),
    [
        ("INSTRUMENTED_WRAPPER_FAILOVER", "perhaps", "broken", "on, off or auto"),
        ("INSTRUMENTED_WRAPPER_FAILOVR", "on", "broken", "INSTRUMENTED_WRAPPER_FAILOVER is meant"),
        ("INSTRUMENTED_WRAPPER_XYZ", "on", "broken", "no such variable"),
        ("INSTRUMENTED_WRAPER_FAILOVER", "on", "warning", "INSTRUMENTED_WRAPPER_FAILOVER is meant"),
        ("INSTRUMENTATION_WRAPPER_TRACES", "on", "warning", "INSTRUMENTED_WRAPPER_TRACES is meant"),
        ("instrumented_wrapper_traces", "on", "warning", "INSTRUMENTED_WRAPPER_TRACES is meant"),
    ],
)
def test_variable_that_is_wrong(name: str, value: str, level: str, words: str) -> None:
    [finding] = variables({"PATH": "/bin", name: value})
    assert (finding.level, finding.about) == (level, name)
    assert words in finding.message


def test_each_wrong_variable_is_named() -> None:
    wrong = {"INSTRUMENTED_WRAPPER_FAILOVER": "x", "INSTRUMENTED_WRAPPER_TRACES": "x", "INSTRUMENTED_WRAPPER_X": "x"}
    assert [finding.about for finding in variables(wrong)] == list(wrong)


def test_password_in_a_wrong_value_is_not_shown() -> None:
    [finding] = variables({"INSTRUMENTED_WRAPPER_FAILOVER_HOSTS": "postgresql://app:hush-hush@db"})
    assert finding.level == "broken" and "hush-hush" not in finding.message


@pytest.mark.parametrize("package", ["aiopg", "mariadb", "cymysql", "oracledb"])
def test_driver_that_is_not_supported(package: str) -> None:
    [finding] = found({package: "1.0"})
    assert (finding.level, finding.check, finding.about) == ("warning", "other_driver", package)


def test_driver_that_has_become_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instrumented_wrapper.doctor.checks.driver_names", lambda: ("psycopg", "aiopg"))
    assert found({"aiopg": "1.0"}) == []


def test_no_supported_driver_is_listed_as_not_supported() -> None:
    assert not {entry.partition(".")[0] for entry in entries()} & {*OTHER_DRIVERS, *OTHER_DRIVERS.values()}


def test_driver_that_is_left_alone() -> None:
    [finding] = found(drivers={"psycopg": ("3.1", "left alone: older than 3.2")})
    assert (finding.level, finding.about) == ("warning", "psycopg")
    assert "older than 3.2" in finding.message


def test_driver_that_is_left_out_as_configured() -> None:
    environ = {"INSTRUMENTED_WRAPPER_DRIVERS": "sqlite3"}
    assert found(environ=environ, drivers={"psycopg": ("3.3", "not patched")}) == []
    assert len(found(drivers={"psycopg": ("3.3", "not patched")})) == 1


def test_aws_driver() -> None:
    assert found({"aws-advanced-python-wrapper": "3.1.0"}) == []
    [finding] = found({"aws-advanced-python-wrapper": "2.4.0"})
    assert (finding.level, finding.check) == ("warning", "aws_driver")


@pytest.mark.parametrize(
    ("package", "mode", "words"),
    [
        ("opentelemetry-instrumentation-psycopg", "on", "a second span"),
        ("opentelemetry-instrumentation-sqlalchemy", "on", "a second span"),
        ("opentelemetry-instrumentation-aiopg", "auto", "a second span"),
        ("ddtrace", "auto", "QUERY_SPANS=off"),
    ],
)
def test_another_instrumentation(package: str, mode: str, words: str) -> None:
    [finding] = found({package: "1.0"}, {"INSTRUMENTED_WRAPPER_QUERY_SPANS": mode})
    assert (finding.level, finding.check, finding.about) == ("warning", "doubled", package)
    assert words in finding.message


@pytest.mark.parametrize("name", ["psycopg", "sqlalchemy"])
def test_another_instrumentation_that_ours_steps_back_from(name: str) -> None:
    """It doubles nothing, so it is not warned of."""
    assert found({f"opentelemetry-instrumentation-{name}": "1.0"}) == []


@pytest.mark.parametrize(
    "environ",
    [{"INSTRUMENTED_WRAPPER_QUERY_SPANS": "off"}, {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, psycopg"}],
)
def test_another_instrumentation_is_chosen_or_disabled(environ: dict[str, str]) -> None:
    assert found({"opentelemetry-instrumentation-psycopg": "1.0"}, environ) == []


def test_another_instrumentation_of_a_driver_that_is_not_installed() -> None:
    assert found({"opentelemetry-instrumentation-pymysql": "1.0"}) == []


def test_exporter_that_is_not_installed() -> None:
    [finding] = found(missing_exporters={"OTEL_TRACES_EXPORTER": ["otlp_proto_grpc"], "OTEL_METRICS_EXPORTER": []})
    assert (finding.level, finding.about) == ("broken", "OTEL_TRACES_EXPORTER")
    assert "otlp_proto_grpc" in finding.message


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "instrumented_wrapper"},
        {"INSTRUMENTED_WRAPPER_ENABLED": "false"},
    ],
)
def test_switched_off(environ: dict[str, str]) -> None:
    assert [(finding.level, finding.check) for finding in found(environ=environ)] == [("warning", "disabled")]


def test_system_without_the_options_of_sockets() -> None:
    environ = {"INSTRUMENTED_WRAPPER_FAILOVER": "auto", "INSTRUMENTED_WRAPPER_FAILOVER_HOSTS": "a,b"}
    assert [finding.check for finding in found(environ=environ, detects=False)] == ["detection"]
    assert found(environ={**environ, "INSTRUMENTED_WRAPPER_DETECTION_TIMEOUT": "0"}, detects=False) == []
    assert found(detects=False) == [], "failover is off"


@pytest.mark.parametrize(
    ("environ", "wrong"),
    [
        ({"INSTRUMENTED_WRAPPER_FAILOVER": "auto"}, True),
        ({"INSTRUMENTED_WRAPPER_FAILOVER": "on"}, True),
        ({"INSTRUMENTED_WRAPPER_FAILOVER": "auto", "INSTRUMENTED_WRAPPER_FAILOVER_HOSTS": "a"}, True),
        ({"INSTRUMENTED_WRAPPER_FAILOVER": "auto", "INSTRUMENTED_WRAPPER_FAILOVER_HOSTS": "a,b"}, False),
        ({"INSTRUMENTED_WRAPPER_FAILOVER": "off"}, False),
    ],
)
def test_no_second_host(environ: dict[str, str], wrong: bool) -> None:
    assert [finding.check for finding in found(environ=environ)] == ["failover"] * wrong
    assert found(environ=environ, with_databases=True) == [], "each database is judged by its own hosts"


def test_process_in_which_nothing_is_patched() -> None:
    nothing = {"patched": {}, "unsupported": [], "doubled": [], "query_spans": "auto", "logged": []}
    process = {"name": "app.py", "pid": 1, "active": False, **nothing}
    assert [finding.level for finding in judged(Program("python", 0, [process]))] == ["broken"]
    assert [finding.level for finding in judged(Program("python", 0, [process | {"active": True}]))] == ["warning"]


def test_probes_without_failover() -> None:
    environ = {"INSTRUMENTED_WRAPPER_FAILOVER": "off", "INSTRUMENTED_WRAPPER_PROBE_AFTER": "10"}
    (finding,) = [finding for finding in found(environ=environ) if finding.check == "detection"]
    assert "PROBE_AFTER" in finding.about
