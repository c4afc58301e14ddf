"""Print which drivers are found and patched, each option with its source, and how OpenTelemetry is configured."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from importlib.util import find_spec
from typing import Final

from instrumented_wrapper import ConfigurationError, __version__, instrument, supported, uninstrument
from instrumented_wrapper.errors import Address
from instrumented_wrapper.instrument import report
from instrumented_wrapper.options import OPTION_NAMES, PREFIX, Options, from_environment

SIGNALS: Final = ("traces", "metrics", "logs")
_NEVER_SHOWN: Final = ("enabled",)
_BY_PROTOCOL: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def main() -> int:
    """Print the report; return 1 if the configuration cannot be used, else 0."""
    print(f"instrumented-wrapper {__version__}, Python {sys.version.split()[0]}")
    try:
        options = from_environment(os.environ)
    except ConfigurationError as error:
        print(f"\nconfiguration: NOT USABLE, nothing would be patched\n  {error}")
        return 1
    for title, lines in (
        ("drivers (tried in this process)", _drivers(options)),
        ("options", _options(options)),
        ("OpenTelemetry", _otel()),
    ):
        print(f"\n{title}")
        print("\n".join(f"  {line}" for line in lines))
    return 0


def _drivers(options: Options) -> Iterator[str]:
    if not options.enabled:
        yield f"nothing is patched: {PREFIX}ENABLED is false"
    for module, (number, done) in tried().items():
        yield f"{module:28} {number or 'not installed':14} {done}".rstrip()


def tried() -> dict[str, tuple[str | None, str]]:
    """Import each supported driver and pool; return its version and what the wrapper did with it.

    Raises:
        ConfigurationError: the configuration cannot be used.
    """
    packages = packages_distributions()
    found = {module: _version_of(module, packages) for module in supported.entries()}
    done = _patched([module for module, number in found.items() if number is not None])
    return {module: (number, done.get(module, "not patched") if number else "") for module, number in found.items()}


def _patched(modules: list[str]) -> Mapping[str, str]:
    """Import the drivers; return what the wrapper did with each, here or earlier under ``opentelemetry-instrument``."""
    by_us = not report().active
    if by_us:
        instrument()
    failed = {module: error for module in modules if (error := _imported(module))}
    done = {**report().done, **failed}
    if by_us:
        uninstrument()
    return done


def _imported(module: str) -> str:
    """Import a module; return the reason if that fails."""
    try:
        import_module(module)
    except Exception as error:  # noqa: BLE001 - one whose C library is missing, or another one, say
        return f"cannot be imported: {type(error).__name__}: {error}"
    return ""


def _version_of(module: str, packages: Mapping[str, list[str]]) -> str | None:
    """Return the version of the package of a module; the two may have different names."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return sys.version.split()[0]
    names = packages.get(package, []) if module == package or _is_there(module) else []
    return version(names[0]) if names else None


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except Exception:  # noqa: BLE001 - what it is in cannot be imported
        return False


def package_version(name: str) -> str | None:
    """Return the version of an installed package, else None."""
    try:
        return version(name.replace("_", "-"))
    except PackageNotFoundError:
        return None


def _options(options: Options) -> Iterator[str]:
    for name in OPTION_NAMES:
        if name not in _NEVER_SHOWN:
            yield f"{name:34} {shown(getattr(options, name)):12} {options.sources.get(name, 'default')}"


def shown(value: object) -> str:
    """Return the value of an option as its environment variable spells it; ``-`` for an empty list."""
    if isinstance(value, float) and not value:
        return "off"
    return ",".join(map(_word, value)) or "-" if isinstance(value, tuple) else str(value).lower()


def _word(item: str | Address) -> str:
    """Spell one item of a list as the environment variable spells it."""
    if isinstance(item, str):
        return item
    host, port = item
    name = f"[{host}]" if ":" in host and port else host
    return f"{name}:{port}" if port else name


def _otel() -> Iterator[str]:
    sdk = package_version("opentelemetry_sdk")
    yield f"SDK              {sdk or 'not installed: spans and metrics go nowhere'}"
    distro = package_version("opentelemetry_distro")
    yield f"distro           {distro or 'not installed: opentelemetry-instrument configures no exporter'}"
    for name in ("OTEL_SDK_DISABLED", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "OTEL_TRACES_EXPORTER"):
        yield f"{name:38} {os.environ.get(name, '-')}"
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    yield f"{'OTEL_EXPORTER_OTLP_ENDPOINT':38} {'set' if endpoint else '-'}"
    yield f"{'under opentelemetry-instrument':38} {_verdict()}"
    configured = "yes" if _is_configured() else "no (run under opentelemetry-instrument)"
    yield f"{'configured in this process':38} {configured}"


def _verdict() -> str:
    """Return what OpenTelemetry's launcher would do with the package. It loads nothing if an exporter is missing."""
    if package_version("opentelemetry_distro") is None and package_version("opentelemetry_sdk") is None:
        return "patched (no SDK: spans and metrics go nowhere)"
    disabled = {name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    if disabled & {"*", "instrumented_wrapper"}:
        return "NOT patched: OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names it"
    missing = [name for signal in SIGNALS for name in missing_exporters(signal)]
    return f"NOT patched: exporter {missing[0]} is not installed" if missing else "patched"


def missing_exporters(signal: str) -> Iterator[str]:
    """Yield the exporters of one of `SIGNALS` that are configured and not installed, as the SDK names them."""
    default = "otlp" if package_version("opentelemetry_distro") else ""
    given = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", default)
    if package_version("opentelemetry_sdk") is None or given.strip().lower() in ("", "none"):
        return
    variables = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = next(filter(None, map(os.environ.get, variables)), "grpc").strip()
    for name in map(str.strip, given.split(",")):
        wanted = _BY_PROTOCOL.get(protocol, f"otlp ({protocol})") if name == "otlp" else name
        if not entry_points(group=f"opentelemetry_{signal}_exporter", name=wanted):
            yield wanted


def _is_configured() -> bool:
    from opentelemetry import trace

    return type(trace.get_tracer_provider()).__module__.startswith("opentelemetry.sdk")
