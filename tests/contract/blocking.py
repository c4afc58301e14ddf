"""What the suite asks of any driver whose calls block, by PEP 249. Knows none of them: see ``drivers/``."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import instrumented_wrapper

from .driver import Callback, Needs


class Blocking(Needs):
    """A driver that has cursors, ``commit`` and ``rollback``, and no pool of its own unless it says otherwise."""

    is_async = False
    own_keywords: frozenset[str] = frozenset()
    for_several: ClassVar[Mapping[str, Any]] = {}
    refused: ClassVar[Mapping[str, Any]] = {}
    unsent: ClassVar[Mapping[str, Any]] = {}
    unknown_keyword_error: type[Exception] = TypeError
    pool_check: Any = None
    pool_timeout: type[Exception] = TimeoutError

    def set(self, connection: Any, setting: str, value: Any) -> None:
        raise NotImplementedError

    def close(self, connection: Any) -> None:
        connection.close()

    def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        return self.execute_on(connection.cursor(), sql)

    def cursor(self, connection: Any) -> Any:
        return connection.cursor()

    def execute_on(self, cursor: Any, sql: str) -> list[tuple[Any, ...]]:
        cursor.execute(sql)
        return self._rows(cursor)

    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        cursor.execute(sql, parameters)
        return self._rows(cursor)

    @staticmethod
    def _rows(cursor: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        cursor.executemany(sql, sets)

    def commit(self, connection: Any) -> None:
        connection.commit()

    def rollback(self, connection: Any) -> None:
        connection.rollback()

    def state_of(self, error: BaseException) -> str | None:
        return getattr(error, "sqlstate", None)

    def code_of(self, error: BaseException) -> str | None:
        return self.state_of(error)

    def callback(self, what: Callback) -> Callable[..., Any]:
        def callback(*arguments: Any) -> Any:
            what.calls.append(arguments)
            for setting, value in what.changes.items():
                self.set(arguments[-1], setting, value)
            if what.statement:
                self.execute(arguments[-1], what.statement)
            if what.closes:
                arguments[-1].close()
            if what.raises:
                raise what.raises
            return what.returns

        return callback

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        if not wrong:
            return getattr(instrumented_wrapper, name)  # type: ignore[no-any-return]
        return lambda *arguments: getattr(instrumented_wrapper, f"{name}_async")(*arguments).send(None)

    def connect_subclass(self, dsn: Any, **settings: Any) -> Any:
        self.needs("classes whose connect configures")

    def wish_for(self, attrs: str) -> dict[str, str]:
        self.needs("target_session_attrs")
        return {}

    def pool(self, dsn: Any, **keywords: Any) -> Any:
        self.needs("pools")

    def take(self, pool: Any, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def give_back(self, pool: Any, connection: Any) -> None:
        raise NotImplementedError

    def close_pool(self, pool: Any) -> None:
        raise NotImplementedError
