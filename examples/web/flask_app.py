r"""A multi-tenant Flask app in one file, on SQLAlchemy and psycopg2: each tenant has a schema of its own.

It knows nothing of this package. A request sets `search_path` for the session, as many apps do, and SQLAlchemy's pool
passes the session on to the next request. A read that loses its server is read again, on the same connection.

    DATABASE_URL='postgresql+psycopg2://app@/app?host=one:5432&host=two:5432&target_session_attrs=read-write' \
        flask --app flask_app run

`notes.sql` makes the tables.
"""

import os
from collections.abc import Sequence

from flask import Flask, Response, abort, g, jsonify, request
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

app = Flask(__name__)
engine = create_engine(os.environ["DATABASE_URL"], isolation_level="AUTOCOMMIT", pool_size=8)


@app.before_request
def enter_tenant() -> None:
    """Take a connection for the request, and choose the schema of its tenant."""
    g.connection = engine.connect()
    if tenant := request.headers.get("X-Tenant"):
        g.connection.execute(text("SELECT set_config('search_path', :tenant, false)"), {"tenant": tenant})


@app.teardown_request
def leave(error: BaseException | None) -> None:
    """Return the connection to the pool."""
    if connection := g.pop("connection", None):
        connection.close()


def read() -> Sequence[str]:
    """Return the notes of the tenant."""
    return g.connection.scalars(text("SELECT text FROM notes ORDER BY text")).all()


@app.get("/")
def show() -> Response:
    """Show the notes of the tenant."""
    try:
        return jsonify([*read()])
    except OperationalError:
        return jsonify([*read()])


@app.post("/")
def add() -> Response:
    """Add a note; whether one was written whose server failed meanwhile is not known."""
    try:
        g.connection.execute(text("INSERT INTO notes (text) VALUES (:text)"), {"text": request.get_data(as_text=True)})
    except OperationalError:
        abort(503)
    return jsonify([*read()])
