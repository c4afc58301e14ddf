"""The exceptions that an app can catch: one family, each of them also an exception of the driver in use.

The driver's exception class is a parameter: this module knows no driver. Messages are written here and never contain
text of a server, nor words by which a pool recognises a connection loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from inspect import getattr_static
from typing import Any

Address = tuple[str, int | None]


_HIDDEN = "***"
_SECRETIVE = re.compile(r"pass|pwd|secret|token|credential|key", re.IGNORECASE)
_USER = re.compile(r"(^|://|[\s,;'\"(\[{])[^\s,;'\"(\[{]*@")  # before a host: a user, and maybe a password
_URL_USER = re.compile(r"(://).*@", re.DOTALL)
_PAIR = re.compile(
    r"""(\w*(?:pass|pwd|secret|token|credential)\w*['"]?\s*[=:]\s*)('[^']*'?|"[^"]*"?|[^\s,;&]+)""", re.IGNORECASE
)


class ConfigurationError(ValueError):
    """An option of the wrapper is not usable; the text names it, the value given and the values accepted.

    A password in the value is hidden, in the text and in the attributes: a log or an error tracker may get all of it.
    """

    def __init__(self, name: str, value: object, accepted: str) -> None:
        value = _without_secrets(name, value)
        super().__init__(name, value, accepted)
        self.name, self.value, self.accepted = name, value, accepted

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} cannot be used: expected {self.accepted}"


def _without_secrets(name: str, value: object) -> object:
    """Return `value`, or its text with ``***`` in place of what may be a password."""
    shown = value if isinstance(value, str) else repr(value)
    if _SECRETIVE.search(name):
        return _HIDDEN
    without_user = _URL_USER if "://" in shown else _USER
    hidden = _PAIR.sub(rf"\1{_HIDDEN}", without_user.sub(rf"\1{_HIDDEN}@", shown))
    return value if hidden == shown else hidden


class FailoverError(Exception):
    """The physical connection was replaced, or could not be; the app has to know about it.

    Each instance raised is also an instance of the driver's ``OperationalError``.

    Attributes:
        transaction: ``"none"`` (none was open), ``"rolled_back"`` or ``"unknown"`` (a COMMIT was on its way).
        may_have_run: False only where nothing was sent, or all that was sent is certainly rolled back.
        server: ``(host, port)`` of the new server, or None.
        blocked_seconds: how long the app waited, in seconds.
        not_restored: names of session state that could not be carried over.
    """

    transaction: str = "none"
    may_have_run: bool = True
    server: Address | None = None
    blocked_seconds: float = 0.0
    not_restored: tuple[str, ...] = ()


class FailoverSuccessError(FailoverError):
    """Another server session took over and is configured; what was under way has failed."""


class FailoverFailedError(FailoverError):
    """No server took over in time, or the new session could not be configured; the app's object is shut for good."""


class TransactionResolutionUnknownError(FailoverError):
    """A COMMIT was sent and its answer never came: the transaction may or may not be committed."""


_FACTS = ("transaction", "may_have_run", "server", "blocked_seconds", "not_restored")
_OF_THE_DRIVER = ("sqlstate", "number", "errno")  # facts that not every driver has


def driver_error(
    kind: type[FailoverError],
    operational: type[Exception],
    cause: BaseException | None,
    message: str,
    facts: Mapping[str, Any],
) -> FailoverError:
    """Create one of our errors that is also an error of the driver.

    Args:
        kind: our class.
        operational: the driver's ``OperationalError``.
        cause: the driver's error. Its class is inherited if it is a subclass of `operational`; its ``sqlstate`` or
            ``pgcode`` is always copied.
        message: the text for the user.
        facts: the attributes of `FailoverError`; ``sqlstate`` where the caller has one; ``number`` where errors of the
            driver have a number before their text, so that ``number, text = error.args`` works for ours too.
    """
    base = type(cause) if isinstance(cause, operational) and not isinstance(cause, FailoverError) else operational
    sqlstate = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    error = _build(kind, base, message, {**facts, **({"sqlstate": sqlstate} if sqlstate else {})})
    error.__cause__ = cause
    return error


def again(error: FailoverError) -> FailoverError:
    """Return the same news as a new exception: each raise has a traceback of its own."""
    base, kind = type(error).__bases__
    copy = _build(kind, base, _text_of(error), _facts(error))
    copy.__cause__ = error.__cause__
    return copy


def remembered(error: FailoverError) -> FailoverError:
    """Return the same news without the frames of the app, whose values would live as long as we remember."""
    kept = again(error)
    kept.__cause__ = None
    return kept


def _facts(error: FailoverError) -> dict[str, Any]:
    of_the_driver = {name: vars(error)[name] for name in _OF_THE_DRIVER if name in vars(error)}
    return {**{name: getattr(error, name) for name in _FACTS}, **of_the_driver}


def _text_of(error: FailoverError) -> str:
    return next(argument for argument in error.args if isinstance(argument, str))


def _build(kind: type[FailoverError], base: type[Exception], message: str, facts: Mapping[str, Any]) -> FailoverError:
    arguments = (facts["number"], message) if "number" in facts else (message,)
    error: FailoverError = _combined(kind, base)(*arguments)  # type: ignore[arg-type]  # classes are hashable
    vars(error).update(facts)
    return error


@cache  # bounded by the classes that drivers have
def _combined(kind: type[FailoverError], base: type[Exception]) -> type[FailoverError]:
    """One class for the driver's error and ours, in that order: there are tools that look at the first base only.

    Dynamic classes do not pickle by name, hence ``__reduce__``.
    """

    def reduce(self: FailoverError) -> tuple[Any, ...]:
        return _build, (kind, base, _text_of(self), _facts(self))

    namespace: dict[str, Any] = {"__reduce__": reduce, "__module__": kind.__module__, "__doc__": kind.__doc__}
    for name in ("pgcode", "sqlstate"):  # psycopg2's and asyncmy's are compiled, and come before what is in `vars`
        if hasattr(type(getattr_static(base, name, None)), "__set__"):
            namespace[name] = property(lambda self: vars(self).get("sqlstate"))
    return type(kind.__name__, (base, kind), namespace)
