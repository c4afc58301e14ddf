"""The wrapper's settings: environment variables and keywords, checked.

Pure: reads a mapping, returns a frozen `Options`, raises `ConfigurationError`. The table `_PARSERS` is the list of
options; the strongest source is applied last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final

from instrumented_wrapper.errors import Address, ConfigurationError
from instrumented_wrapper.supported import driver_names

PREFIX: Final = "INSTRUMENTED_WRAPPER_"
SEED_KEYWORDS: Final = ("reset_session_state_on_close", "transfer_session_state_on_switch")
_BAG: Final = "instrumented_wrapper"
_FOR_SERVERS: Final = ("PG_BIN", "MYSQL_BIN")  # where tests and demo find servers' programs: no options of the package
_LEAVABLE: Final = ("namespace", "summary")
_BOOLEANS: Final = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False}
_BOOLEANS["no"] = False
CONNECT: Final = "connect"  # the source of options that one connection has
_imposed: Final[ContextVar[Mapping[str, Any]]] = ContextVar("imposed", default=MappingProxyType({}))
# Options that mean nothing to one connection, and where they are given instead.
_OF_THE_PROCESS: Final = {
    "drivers": f"no such option for one connection: give it to instrument(drivers=...) or in {PREFIX}DRIVERS",
    "enabled": f"no such option for one connection: give it in {PREFIX}ENABLED",
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options, one attribute each; see the README. `sources` records where each value came from."""

    enabled: bool = True
    drivers: tuple[str, ...] = field(default_factory=driver_names)
    reset_session_state_on_close: bool = True
    transfer_session_state_on_switch: bool = True
    failover: str = "auto"
    failover_hosts: tuple[Address, ...] = ()
    failover_timeout: float = 60.0
    detection_timeout: float = 5.0
    resolve_commits: bool = False
    probe_after: float = 0.0
    traces: bool = True
    metrics: bool = True
    reset_on_return: str = "auto"
    reset_scope: str = "settings"
    pooler: str = "auto"
    query_spans: str = "auto"
    query_text: str = "auto"
    transaction_spans: str = "auto"
    connect_spans: bool = False
    metrics_without: tuple[str, ...] = ()
    capture_values: bool = False
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def with_keywords(self, keywords: Mapping[str, Any], source: str) -> Options:
        """Return these options with `keywords` over them.

        Raises:
            ConfigurationError: an unknown name, a value that is not accepted, or an option that `source` cannot give.
        """
        for name in _OF_THE_PROCESS.keys() & keywords if source == CONNECT else ():
            raise ConfigurationError(name, keywords[name], _OF_THE_PROCESS[name])
        checked = {name: _parse(name, name, value) for name, value in keywords.items()}
        sources = {**self.sources, **dict.fromkeys(checked, source)}
        return replace(self, **checked, sources=MappingProxyType(sources))


def from_environment(environ: Mapping[str, str]) -> Options:
    """Return the defaults with the variables ``INSTRUMENTED_WRAPPER_*`` of `environ` over them.

    Raises:
        ConfigurationError: an unknown variable with our prefix, or a value that is not accepted.
    """
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value.strip()}
    for name in _FOR_SERVERS:
        given.pop(f"{PREFIX}{name}", None)
    checked = {_option(name): _parse(name, _option(name), value) for name, value in given.items()}
    sources = {_option(name): name for name in given}
    return replace(Options(), **checked, sources=MappingProxyType(sources))


def take_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """Take our own keywords of ``connect`` out of `keywords` and return them; no other keyword is touched.

    Raises:
        ConfigurationError: ``instrumented_wrapper=`` is not a mapping.
    """
    taken = {name: keywords.pop(name) for name in SEED_KEYWORDS if name in keywords}
    bag = keywords.pop(_BAG, {})
    if not isinstance(bag, Mapping):
        raise ConfigurationError(_BAG, bag, "a mapping of option names to values")
    return {**bag, **taken, **_imposed.get()}


@contextmanager
def imposing(keywords: Mapping[str, Any]) -> Iterator[None]:
    """While inside, each connection that is made has these options, whatever its own keywords say."""
    token = _imposed.set(keywords)
    try:
        yield
    finally:
        _imposed.reset(token)


def _option(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


def _parse(shown: str, name: str, value: object) -> Any:
    """Check one value. `shown` is the name that the user wrote, `name` the option."""
    parser = _PARSERS.get(name)
    if parser is None or (name == "enabled" and shown == name):
        raise ConfigurationError(shown, value, _known(shown, name))
    return parser(shown, value.strip() if isinstance(value, str) else value)


def _known(shown: str, name: str) -> str:
    """List the options that exist, spelled as the user has spelled this one: as a variable or as a keyword."""
    is_variable = shown != name
    spelled = {option: f"{PREFIX}{option.upper()}" if is_variable else option for option in _PARSERS}
    if not is_variable:
        del spelled["enabled"]
    meant = get_close_matches(name, spelled, 1)
    guess = f"{spelled[meant[0]]}, or another " if meant else "one "
    return f"{guess}of the {'variables' if is_variable else 'options'} {', '.join(spelled.values())}"


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, (bool, int, str)) and (answer := _BOOLEANS.get(str(value).lower())) is not None:
        return answer
    raise ConfigurationError(name, value, "true/false, 1/0, on/off or yes/no")


def _switch(name: str, value: object) -> str:
    if isinstance(value, str) and value.lower() == "auto":
        return "auto"
    try:
        return "on" if _boolean(name, value) else "off"
    except ConfigurationError:
        raise ConfigurationError(name, value, "on, off or auto") from None


def _on_return(name: str, value: object) -> str:
    if isinstance(value, str) and value.lower() in ("close", "report"):
        return value.lower()
    try:
        return _switch(name, value)
    except ConfigurationError:
        raise ConfigurationError(name, value, "auto, on, close, report or off") from None


def _one_of(*words: str) -> Callable[[str, Any], str]:
    def parse(name: str, value: object) -> str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        raise ConfigurationError(name, value, f"{', '.join(words[:-1])} or {words[-1]}")

    return parse


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if math.isfinite(seconds) and seconds > 0:
        return seconds
    raise ConfigurationError(name, value, "a number of seconds above 0")


def _seconds_or_none(name: str, value: object) -> float:
    if not isinstance(value, bool) and value in (0, "0"):
        return 0.0
    try:
        return _seconds(name, value)
    except ConfigurationError:
        raise ConfigurationError(name, value, "a number of seconds above 0, or 0 to leave sockets alone") from None


def _seconds_or_off(name: str, value: object) -> float:
    if value is False or value == 0 or str(value).lower() in ("off", "0", "false", "no"):
        return 0.0
    try:
        return _seconds(name, value)
    except ConfigurationError:
        raise ConfigurationError(name, value, "a number of seconds above 0, or off") from None


def _drivers(name: str, value: object) -> tuple[str, ...]:
    names = tuple(_words(value)) if isinstance(value, (str, list, tuple)) else ()
    if names and all(driver in driver_names() for driver in names):
        return names
    raise ConfigurationError(name, value, f"a comma list of {', '.join(driver_names())}")


def _left_out(name: str, value: object) -> tuple[str, ...]:
    given = [str(word).lower() for word in _words(value)] if isinstance(value, (str, list, tuple)) else [""]
    if all(word in _LEAVABLE for word in given):
        return tuple(word for word in _LEAVABLE if word in given)
    raise ConfigurationError(name, value, f"a comma list of {', '.join(_LEAVABLE)}")


def _hosts(name: str, value: object) -> tuple[Address, ...]:
    try:
        return tuple(_address(word) for word in _words(value))
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(name, value, "host[:port],host[:port]; an IPv6 address in brackets") from None


def _words(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    if isinstance(value, (Mapping, set, bytes)):
        raise TypeError(value)  # neither has an order, or what is lost would not be noticed
    parts = value.split(",") if isinstance(value, str) else list(value)
    return [part.strip() if isinstance(part, str) else part for part in parts if part != ""]


_NO_HOST: Final = re.compile(r".[@?=]", re.DOTALL)  # of a connection string, with its password
_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d+))?")


def _address(word: Any) -> Address:
    """Read ``host``, ``host:port``, ``[v6]``, ``[v6]:port``, a bare IPv6 address, ``/socket/dir``, or a pair."""
    if not isinstance(word, str):
        host, port = word
        return _host(host), None if port is None else _port(port)
    if word.count(":") > 1 and not word.startswith("["):
        return str(ip_address(word)), None
    match = _ADDRESS.fullmatch(word)
    if match is None:
        raise ValueError(word)
    host = str(ip_address(match["v6"])) if match["v6"] else _host(match["host"])
    return host, _port(match["port"]) if match["port"] else None


def _host(given: object) -> str:
    if not isinstance(given, str) or not given or _NO_HOST.search(given):
        raise ValueError(given)
    return given


def _port(given: Any) -> int:
    if not 0 < (port := int(given)) < 65536:
        raise ValueError(given)
    return port


_PARSERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "enabled": _boolean,
    "drivers": _drivers,
    "reset_session_state_on_close": _boolean,
    "transfer_session_state_on_switch": _boolean,
    "failover": _switch,
    "failover_hosts": _hosts,
    "failover_timeout": _seconds,
    "detection_timeout": _seconds_or_none,
    "resolve_commits": _boolean,
    "probe_after": _seconds_or_off,
    "traces": _boolean,
    "metrics": _boolean,
    "reset_on_return": _on_return,
    "reset_scope": _one_of("settings", "session"),
    "pooler": _one_of("auto", "session", "transaction"),
    "query_spans": _switch,
    "query_text": _one_of("auto", "sanitized", "off"),
    "transaction_spans": _switch,
    "connect_spans": _boolean,
    "metrics_without": _left_out,
    "capture_values": _boolean,
}
OPTION_NAMES: Final = tuple(option.name for option in fields(Options) if option.name != "sources")
