"""Check what is installed and configured, without a connection. Pure: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from instrumented_wrapper.doctor.findings import Finding, Level
from instrumented_wrapper.errors import ConfigurationError
from instrumented_wrapper.options import OPTION_NAMES, PREFIX, Options, from_environment
from instrumented_wrapper.supported import driver_entries, driver_names, entries

# Packages of drivers that are not supported, and their modules.
OTHER_DRIVERS: Final = {
    "aiopg": "aiopg",
    "cx-oracle": "cx_Oracle",
    "cymysql": "cymysql",
    "duckdb": "duckdb",
    "mariadb": "mariadb",
    "oracledb": "oracledb",
    "psycopg2cffi": "psycopg2cffi",
    "pymssql": "pymssql",
    "pyodbc": "pyodbc",
}
_OTEL: Final = "opentelemetry-instrumentation-"
# Of OpenTelemetry, above the drivers: a span for each statement, too; True where ours step back from them.
_ABOVE_DRIVERS: Final = {"sqlalchemy": True, "aiopg": False, "tortoiseorm": False}
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_ALIKE: Final = 0.85
_AWS: Final = "aws-advanced-python-wrapper"
_AWS_FROM: Final = (3, 1)
_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Facts:
    """The installed packages and the configuration of this environment.

    Attributes:
        environ: environment variables.
        packages: versions of the installed packages, by their normalised names.
        drivers: for each supported module its version, if it is installed, and what the wrapper did with it.
        missing_exporters: exporters that are configured and not installed, by the variable that names them.
        detects: True if the system lets the wrapper set when a socket gives a vanished host up.
        with_databases: True if databases are checked too, with their own hosts.
    """

    environ: Mapping[str, str]
    packages: Mapping[str, str]
    drivers: Mapping[str, tuple[str | None, str]]
    missing_exporters: Mapping[str, list[str]]
    with_databases: bool = False
    detects: bool = True


def all_checks(facts: Facts, options: Options | None) -> Iterator[Finding]:
    """Yield all findings; `options` is None if the configuration cannot be used."""
    yield from variables(facts.environ)
    yield from _patched(facts, options)
    yield from _other_drivers(facts.packages)
    yield from _aws(facts.packages)
    yield from _launcher(facts)
    if options is not None:
        yield from _switched_off(options)
        yield from _doubled(facts, options)
        if not facts.detects and options.failover != "off" and options.detection_timeout:
            text = "has no effect on this system: a host that vanishes is found when its kernel gives the connection up"
            yield Finding("warning", "detection", f"{PREFIX}DETECTION_TIMEOUT", text)
        if options.probe_after and options.failover == "off":
            text = "has no effect: only connections whose loss leads to a failover are probed, and failover is off"
            yield Finding("warning", "detection", f"{PREFIX}PROBE_AFTER", text)
        if not facts.with_databases:
            yield _failover(options)


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check each environment variable, and names that resemble one of the wrapper's."""
    known = {f"{PREFIX}{name.upper()}" for name in OPTION_NAMES}
    wrong = False
    for name, value in environ.items():
        meant = "".join(f": {like} is meant, perhaps" for like in get_close_matches(name.upper(), known, 1, _ALIKE))
        if not name.startswith(PREFIX):
            if meant:
                wrong = True
                yield Finding("warning", "variable", name, f"is not read{meant}")
            continue
        try:
            from_environment({name: value})
        except ConfigurationError as error:
            wrong = True
            text = str(error) if name in known else f"no such variable{meant}"
            yield Finding("broken", "variable", name, f"nothing is patched: {text}")
    if not wrong:
        yield Finding("ok", "variable", f"{PREFIX}*", "each one is known and has a value that is accepted")


def _patched(facts: Facts, options: Options | None) -> Iterator[Finding]:
    chosen = ("", *(options.drivers if options and options.enabled else ()))
    for module, (version, done) in facts.drivers.items():
        if version is not None:
            is_wanted = entries()[module].driver in chosen
            level: Level = "ok" if done.startswith("patched") or not is_wanted else "warning"
            yield Finding(level, "driver", module, f"{version} is {done}{'' if is_wanted else ', as configured'}")


def _other_drivers(packages: Mapping[str, str]) -> Iterator[Finding]:
    for package, module in OTHER_DRIVERS.items():
        if package in packages and module not in driver_names():
            text = "is installed and not supported: its sessions are neither tracked, reset nor carried over"
            yield Finding("warning", "other_driver", package, f"{packages[package]} {text}")


def _aws(packages: Mapping[str, str]) -> Iterator[Finding]:
    if (version := packages.get(_AWS)) is None:
        return
    if tuple(map(int, _NUMBERS.findall(version)[:2])) < _AWS_FROM:
        text = "is older than 3.1: settings by SQL are not carried over when it replaces a connection"
        yield Finding("warning", "aws_driver", _AWS, f"{version} {text}")
    else:
        text = "finds the new server by itself, and the session follows; failover_hosts is not for its connections"
        yield Finding("ok", "aws_driver", _AWS, f"{version} {text}")


def _launcher(facts: Facts) -> Iterator[Finding]:
    for variable, names in facts.missing_exporters.items():
        for name in names:
            text = f"exporter {name} is not installed: opentelemetry-instrument then patches nothing. Install it,"
            yield Finding("broken", "exporter", variable, f"{text} or set {variable}=none")
    if _disabled(facts.environ) & {"*", "instrumented_wrapper"}:
        yield Finding("warning", "disabled", _DISABLED, "names this package: opentelemetry-instrument patches nothing")
    if facts.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding("warning", "disabled", "OTEL_SDK_DISABLED", "is true: there are no spans and no metrics")
    if "opentelemetry-sdk" not in facts.packages:
        text = "is not installed: spans and metrics go nowhere. Install opentelemetry-distro and an exporter"
        yield Finding("warning", "exporter", "opentelemetry-sdk", text)
    elif "opentelemetry-distro" not in facts.packages:
        text = "is not installed: opentelemetry-instrument configures no exporter, unless OTEL_TRACES_EXPORTER does"
        yield Finding("warning", "exporter", "opentelemetry-distro", text)


def _disabled(environ: Mapping[str, str]) -> set[str]:
    return {name.strip() for name in environ.get(_DISABLED, "").split(",")}


def _switched_off(options: Options) -> Iterator[Finding]:
    if not options.enabled:
        yield Finding("warning", "disabled", f"{PREFIX}ENABLED", "is false: nothing is patched")


def _doubled(facts: Facts, options: Options) -> Iterator[Finding]:
    """Report other instrumentations that record a span for each statement; `query_spans=off` leaves these to them."""
    if options.query_spans == "off" or not options.traces:
        return
    disabled = _disabled(facts.environ)
    for name, ours in (*_instrumentations(facts.drivers), *_ABOVE_DRIVERS.items()):
        if f"{_OTEL}{name}" not in facts.packages or disabled & {"*", name}:
            continue
        if ours and options.query_spans == "auto":
            yield Finding("ok", "doubled", f"{_OTEL}{name}", "makes the statements' spans, and ours are left out")
        else:
            text = f"makes a second span. Choose one: {_DISABLED}={name}, or {PREFIX}QUERY_SPANS=off"
            yield Finding("warning", "doubled", f"{_OTEL}{name}", text)
    if "ddtrace" in facts.packages:
        text = f"makes the statements' spans too where it is active: {PREFIX}QUERY_SPANS=off leaves them to it"
        yield Finding("warning", "doubled", "ddtrace", text)


def _instrumentations(drivers: Mapping[str, tuple[str | None, str]]) -> Iterator[tuple[str, bool]]:
    """Yield the names of OpenTelemetry's instrumentations of the drivers that are installed."""
    for name, entry in driver_entries().items():
        if entry.instrumentor and drivers.get(name, (None, ""))[0] is not None:
            yield entry.instrumentor[0].rpartition(".")[2], True


def _failover(options: Options) -> Finding:
    variable = f"{PREFIX}FAILOVER"
    if options.failover == "off":
        return Finding("ok", "failover", variable, "is off: a loss is the driver's own error")
    if len(options.failover_hosts) > 1:
        return Finding("ok", "failover", f"{PREFIX}FAILOVER_HOSTS", f"names {len(options.failover_hosts)} hosts")
    if options.failover == "on":
        text = "is on, but FAILOVER_HOSTS names no second host: an app with one host waits for the same server"
        return Finding("warning", "failover", variable, text)
    text = "is not set: failover is on only where a connection names several hosts itself. Check one with --dsn"
    return Finding("warning", "failover", f"{PREFIX}FAILOVER_HOSTS", text)
