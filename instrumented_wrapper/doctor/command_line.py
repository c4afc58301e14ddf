"""``python -m instrumented_wrapper doctor``: read the command line, run the checks, print, return the exit code."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import distributions
from typing import Any, Final, NoReturn

from instrumented_wrapper import ConfigurationError, __version__, instrument, uninstrument
from instrumented_wrapper.doctor import checks, files, hosts, output, program, rehearsal
from instrumented_wrapper.doctor.connecting import available
from instrumented_wrapper.doctor.findings import Finding, exit_code
from instrumented_wrapper.doctor.overview import SIGNALS, missing_exporters, tried
from instrumented_wrapper.doctor.questions import QUESTIONS, Setting
from instrumented_wrapper.doctor.urls import Target, UsageError, masked, target
from instrumented_wrapper.drivers.engine import detection
from instrumented_wrapper.errors import Address
from instrumented_wrapper.instrument import report
from instrumented_wrapper.options import Options, from_environment
from instrumented_wrapper.supported import driver_names

_NAME: Final = "python -m instrumented_wrapper"
_SECONDS: Final = 10.0


class _Parser(argparse.ArgumentParser):
    """Parse arguments without a password in any error: an unknown argument may be a URL."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with code 2."""
        super().error(masked(message))


def _parsers() -> tuple[_Parser, _Parser]:
    parser = _Parser(prog=_NAME, description="Without a command: what is found, patched and configured here.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser(
        "doctor",
        usage=f"{_NAME} doctor [--dsn URL]... [--json] [--seconds N] [--as-is] [-- COMMAND...]",
        description="Check what is installed and configured, databases, and what is patched in a program.",
        epilog="exit code: 0 all well, 1 warnings, 2 something is broken or the command line cannot be used",
    )
    doctor.add_argument(
        "--dsn", action="append", default=[], metavar="URL", help="connect to this database; repeatable"
    )
    doctor.add_argument("--json", action="store_true", help="print data, not a table")
    doctor.add_argument("--seconds", type=_positive, default=_SECONDS, help="stop COMMAND after so many (default: 10)")
    doctor.add_argument("--as-is", action="store_true", help="COMMAND calls instrument() itself: do not do it for it")
    return parser, doctor


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text}: expected a number of seconds above 0")


@dataclass(slots=True)
class _Database:
    """The results for one URL."""

    target: Target
    driver: str = ""
    hosts: list[hosts.Host] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    rehearsal: rehearsal.Rehearsal | None = None
    findings: list[Finding] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    """Run the doctor; return the exit code."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    command = list(arguments[cut + 1 :])
    parser, doctor = _parsers()
    given = parser.parse_args(list(arguments[:cut]))
    try:
        if cut < len(arguments) and not command:
            raise UsageError("-- needs a command after it")
        targets = [target(url) for url in given.dsn]
        ran = program.run(command, given.seconds, given.as_is) if command else None
    except UsageError as error:
        doctor.error(str(error))
    logging.getLogger("instrumented_wrapper").addHandler(logging.NullHandler())  # what it warns of, findings say
    options, facts = _facts(bool(targets))
    databases = _examined(targets, options)
    sections = [("this environment", list(checks.all_checks(facts, options)))]
    sections += [(database.target.shown, database.findings) for database in databases]
    sections += [(f"program {ran.name}", list(program.judged(ran)))] if ran else []
    result = _result(facts, databases, ran, [finding for _, findings in sections for finding in findings])
    print(output.as_json(result) if given.json else output.as_table(result, sections))
    return int(result["exit_code"])


def _facts(with_databases: bool) -> tuple[Options | None, checks.Facts]:
    try:
        options, drivers = from_environment(os.environ), tried()
    except ConfigurationError:  # each variable is judged by itself
        options, drivers = None, {}
    missing = {f"OTEL_{signal.upper()}_EXPORTER": list(missing_exporters(signal)) for signal in SIGNALS}
    packages = {
        _normalised(found.metadata["Name"]): found.version for found in distributions() if found.metadata["Name"]
    }
    return options, checks.Facts(dict(os.environ), packages, drivers, missing, with_databases, detection.SUPPORTED)


def _normalised(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _examined(targets: Sequence[Target], options: Options | None) -> list[_Database]:
    """Check each database, with the drivers patched as in the app."""
    by_us = options is not None and options.enabled and not report().active
    if by_us and targets:
        instrument()
    try:
        return [_examine(_Database(target), options or Options(failover="off")) for target in targets]
    finally:
        if by_us:
            uninstrument()


def _examine(found: _Database, options: Options) -> _Database:
    at = found.target
    found.driver = available(at)
    found.findings += _about_driver(at, found.driver)
    if not found.driver:
        return found
    patched = report().done.get(found.driver, "").startswith("patched")
    if at.database == "sqlite":
        file, found.settings = files.look_at(at, found.driver)
        found.hosts, found.findings = [file], [*found.findings, *files.judged(at, file)]
        return found
    found.hosts = [hosts.look_at(at, found.driver, address, patched) for address in _known(at, options)]
    found.findings += hosts.judged(at, found.hosts, dict(at.query).get("target_session_attrs", ""))
    if any(not host.error for host in found.hosts):
        found.rehearsal = rehearsal.rehearse(at, found.driver, found.hosts, patched)
        found.settings = found.rehearsal.settings
        found.findings += rehearsal.judged(at, found.driver, found.rehearsal, found.hosts)
    return found


def _known(at: Target, options: Options) -> Sequence[Address | None]:
    """Return the hosts of a URL and of the options; a host without a port has the port of the URL."""
    common = at.hosts[0][1] if at.hosts else None
    return list(dict.fromkeys((host, port or common) for host, port in (*at.hosts, *options.failover_hosts))) or [None]


def _about_driver(at: Target, driver: str) -> Iterator[Finding]:
    if not driver:
        text = f"no driver is installed that the doctor can connect with: install {' or '.join(at.drivers)}"
        yield Finding("broken", "driver", at.shown, text)
    elif at.named and at.named not in driver_names():
        text = f"{at.named} is not supported: the app's sessions are not looked after. The doctor used {driver}"
        yield Finding("warning", "driver", at.shown, text)


def _result(
    facts: checks.Facts, databases: Sequence[_Database], ran: program.Program | None, findings: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "exit_code": exit_code(findings),
        "findings": [asdict(finding) for finding in findings],
        "drivers": {module: {"version": version, "status": done} for module, (version, done) in facts.drivers.items()},
        "databases": [_as_data(database) for database in databases],
        "program": asdict(ran) if ran else None,
    }


def _as_data(database: _Database) -> dict[str, Any]:
    tried = database.rehearsal
    return {
        "url": database.target.shown,
        "database": database.target.database,
        "driver": database.driver,
        "hosts": [_host(host) for host in database.hosts],
        "settings": [_setting(setting, tried) for setting in database.settings],
        "failover": None
        if tried is None
        else {
            "on": tried.failover,
            "rehearsed": tried.tried,
            "carried": tried.carried,
            "not_carried": [*tried.changed, *QUESTIONS[database.target.database].lost],
            "error": tried.error or None,
            "options": tried.options,
        },
    }


def _host(host: hosts.Host) -> dict[str, Any]:
    data: dict[str, Any] = {"name": host.name, "host": host.host, "port": host.port, "answers": not host.error}
    data |= {"role": host.role or None, "version": host.version or None, "round_trip_ms": host.round_trip}
    return {**data, "pooler": host.pooler, "error": host.error or None}


def _setting(setting: Setting, tried: rehearsal.Rehearsal | None) -> dict[str, Any]:
    """Show one setting. A name with a dot belongs to the app: its value is hidden, as in telemetry."""
    carried = setting.name not in tried.changed if tried and tried.tried and not tried.error else None
    hidden: Mapping[str, str] = {"value": "<hidden>", "default": "<hidden>"} if "." in setting.name else {}
    return {**asdict(setting), **hidden, "carried": carried}
