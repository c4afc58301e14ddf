"""How connections are made: by ``connect``, or by calling a class. Our keywords are taken out; then it is watched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from instrumented_wrapper.databases import sqlite
from instrumented_wrapper.drivers.engine.adapted_record import Arguments, Record, record_of
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.query_spans import QuerySpans
from instrumented_wrapper.drivers.registry import KEY
from instrumented_wrapper.drivers.sqlite3.adapter import readable
from instrumented_wrapper.drivers.sqlite3.classes import C_CONNECTION, Watched, combined
from instrumented_wrapper.operations import Site
from instrumented_wrapper.options import CONNECT, Options, take_keywords

Method = Callable[..., Any]
_FACTORY: Final = 5  # the place of ``factory`` among the positional arguments of ``connect``
_NAME: Final = "_instrumented_wrapper_name"  # in a connection's ``__dict__``: the database, until it is watched


class Maker:
    """Makes the closures."""

    def __init__(self, adapter: DriverAdapter, spans: QuerySpans, options: Options) -> None:
        self._adapter, self._spans, self._options = adapter, spans, options

    def connect(self, original: Method) -> Method:
        """Wrap ``sqlite3.connect``: insert our class between the app's and the C class."""

        @functools.wraps(original)
        def connect(*args: object, **kwargs: object) -> Any:
            given = args[_FACTORY] if len(args) > _FACTORY else kwargs.get("factory", C_CONNECTION)
            if not (isinstance(given, type) and issubclass(given, C_CONNECTION)):  # a function of the app's
                take_keywords(kwargs)
            elif len(args) > _FACTORY:
                args = (*args[:_FACTORY], combined(given, Watched), *args[_FACTORY + 1 :])
            else:
                kwargs["factory"] = combined(given, Watched)
            return original(*args, **kwargs)

        return connect

    def call(self, original: Method) -> Method:
        """Call a class of connections: what its constructors set is the baseline."""
        spans = self._spans

        @functools.wraps(original)
        def call(cls: Any, /, *args: object, **kwargs: object) -> Any:
            options = self._options
            if ours := take_keywords(kwargs):
                options = replace(options.with_keywords(ours, CONNECT), failover="off")
            database = args[0] if args else kwargs.get("database")
            with spans.connect(options, lambda: Site(sqlite.SYSTEM, readable(database), "", None)):
                connection = original(cls, *args, **kwargs)
            if Watched in type(connection).__mro__ and record_of(connection) is None:  # `__new__` is the app's
                self._watch(connection, options)
            return connection

        return call

    def _watch(self, connection: object, options: Options) -> None:
        arguments = Arguments((connection.__dict__.pop(_NAME, ""),), {})
        record = Record(self._adapter, connection, options, arguments)
        record.attach(connection, ())
        self._spans.attend(record, options)

    def init(self, original: Method) -> Method:
        """Open a database; the same object may open another one later."""

        @functools.wraps(original)
        def init(self: Any, /, *args: object, **kwargs: object) -> None:
            record = record_of(self)  # a second time clears the object's ``__dict__``
            original(self, *args, **kwargs)
            name = readable(args[0] if args else kwargs.get("database"))
            if record is None:
                self.__dict__[_NAME] = name
            else:
                self.__dict__[KEY], record.arguments = record, Arguments((name,), {})
                record.session_restarted(self)

        return init
