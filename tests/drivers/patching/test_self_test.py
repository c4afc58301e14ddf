"""Each private part of a driver that the wrapper relies on is in the self-test: renamed in a copy of the driver, it is
reported, and the driver is observed only or left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module

import pytest

from ..script import run

# The parts that the wrapper relies on, gathered by hand: not out of the tables of the self-test itself.
PARTS = {
    "psycopg": """
        _set_autocommit_gen _set_isolation_level_gen _set_read_only_gen _set_deferrable_gen _exec_command
        _check_connection_ok _notice_handler _notify_handler _get_connection_params _convert_query _execute_gen
        _executemany_gen_pipeline _executemany_gen_no_pipeline _start_query _enter_gen _exit_gen _pop_savepoint
        _commit_gen _rollback_gen _tpc_prepare_gen _fetch_gen _fetch_pipeline _stream_send_gen _start_copy_gen
        _declare_gen notifies copy_from copy_to copy_end
        _autocommit _isolation_level _read_only _deferrable _begin_statement _adapters _closed _num_transactions
        _pipeline _prepared _tpc _conn _pgconn _outer_transaction _stack_index force_rollback _lock exc_val params_seq
        result_format command_queue result_queue level prepare_threshold prepared_max interval""",
    "psycopg_pool": "_reset_connection _check _reset _connect _pool getconn putconn",
    "psycopg2": "_connect _ext",
    "psycopg2.pool": "_putconn _rused",
    "pymysql": """
        _execute_command _read_ok_packet _read_query_result _request_authentication _force_close _affected_rows _closed
        _create_ssl_ctx _next_seq_id _read_timeout _result _rfile _secure _sock client_flag ctx server_capabilities
        server_status server_thread_id server_version _check_packet_is_eof has_next
        message unbuffered_active read_next""",
    "aiomysql": """
        _connect _ConnectionContextManager _execute_command _read_ok_packet _read_packet _read_bytes _read_query_result
        _request_authentication _close_on_cancel _ensure_alive _affected_rows _charset _close_reason _db _encoding _host
        _next_seq_id _password _port _reader _result _secure _ssl_context _unix_socket _user _writer client_flag
        server_capabilities server_status _check_packet_is_eof has_next
        unbuffered_active _StreamReader _connection _read_next""",
    "aiosqlite": "_execute _connection _tx",
    "pg8000": """
        _read _write _flush ci_unpack Context READY_FOR_QUERY handle_messages send_QUERY execute_simple execute_unnamed
        execute_named prepare_statement close_prepared_statement _usock _sock _backend_key_data parameter_statuses
        _transaction_status _statement_nums _client_encoding message_types pg_types py_types input_funcs
        _xid _c con""",
    "MySQLdb": "_result BaseCursor CursorUseResultMixIn",
    "mysql.connector": """
        _autocommit _character_set _charset_id _database _handshake _have_next_result _host _in_transaction
        _get_connection build_ssl_context
        _open_connection _password _port _sql_mode _time_zone _unix_socket _unread_result _user _socket _protocol
        _executed _prepared""",
    "mysql.connector.pooling": "_cnx",
    "django.db.backends.base.base": "close_if_unusable_or_obsolete in_atomic_block alias",
    "dbutils.pooled_db": "_con _connections _idle_cache _lock _maxconnections _reset cache",
    "dbutils.steady_db": "_close _closeable _closed _con _create",
    "playhouse.pool": "_connections _in_use _max_connections conn_key",
    "sqlalchemy.pool": """
        __pool __connect _checkout _connection_record _dialect _max_overflow _orig_logging_name _reset _return_conn
        fairy_ref""",
}

# The driver is imported with one name replaced by another in all of its text; each time in a forked process.
SCRIPT = """
import importlib.machinery, json, logging, os, re, sys

driver, names = sys.argv[1], sys.argv[2].split()
import instrumented_wrapper.telemetry  # what all of them need
heard = []

class Renamed(importlib.machinery.SourceFileLoader):
    part = ""
    def source_to_code(self, data, path, *rest, **options):  # Python 3.15 gives more than a path
        text = re.sub(rf"\\b{self.part}\\b", f"{self.part}_renamed", bytes(data).decode())
        return super().source_to_code(text.encode(), path, *rest, **options)
    def path_stats(self, path):
        raise OSError  # no compiled copy is read

class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and (name + ".").startswith(driver + ".") and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Renamed(spec.loader.name, spec.loader.path)
        return spec

def attempt(name):
    Renamed.part = name
    sys.meta_path.insert(0, Finder)
    logging.getLogger("instrumented_wrapper").addHandler(type("H", (logging.Handler,), {
        "emit": lambda self, record: heard.append(record.getMessage())})())
    import instrumented_wrapper
    instrumented_wrapper.instrument()
    importlib.import_module(driver)
    return heard

for name in names:
    out, into = os.pipe()
    if not os.fork():
        try:
            said = attempt(name)
        except BaseException as error:
            said = [f"raised {type(error).__name__}: {error}"]
        os.write(into, json.dumps(said).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        print(json.dumps([name, json.loads(pipe.read())]), flush=True)
    os.wait()
"""


def heard(driver: str) -> Iterator[tuple[str, list[str]]]:
    names = " ".join(PARTS[driver].split())
    ended = run(SCRIPT, driver, names)
    assert (ended.returncode, ended.stderr) == (0, "")
    yield from (json.loads(line) for line in ended.stdout.splitlines())


@pytest.mark.parametrize("driver", PARTS)
def test_a_part_that_is_renamed_is_reported(driver: str) -> None:
    try:
        import_module(driver)
    except ImportError as error:
        pytest.skip(str(error))
    told = dict(heard(driver))
    assert set(told) == set(PARTS[driver].split())
    silent = {name: said for name, said in told.items() if not (len(said) == 1 and name in said[0])}
    assert not silent
