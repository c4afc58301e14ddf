r"""A multi-tenant Celery worker in one file, on psycopg and its pool: PostgreSQL separates the tenants' rows.

It knows nothing of this package. A task sets its tenant for the session, as many apps do, and the pool passes the
session on to the next task. A task that loses its server is run again: the key of a note is the caller's, so that none
is there twice. Tasks wait in files, so that no broker is needed.

    DATABASE_URL='host=one,two dbname=app user=app target_session_attrs=read-write' \
        celery --app celery_app worker --pool solo
    celery --app celery_app call celery_app.add --args '["acme", "a note"]'

`notes.sql` makes the table.
"""

import os
from pathlib import Path

import psycopg
from celery import Celery
from psycopg_pool import ConnectionPool

tasks = Path(os.environ.get("TASKS_FOLDER", "tasks"))
tasks.mkdir(exist_ok=True)
folders = {"data_folder_in": str(tasks), "data_folder_out": str(tasks), "control_folder": str(tasks / "control")}
app = Celery("notes", broker="filesystem://")
app.conf.update(broker_transport_options=folders, broker_connection_retry_on_startup=True)

pool = ConnectionPool(os.environ.get("DATABASE_URL", ""), min_size=1, open=False)


@app.task(autoretry_for=(psycopg.OperationalError,), default_retry_delay=0)
def add(tenant: str, note: str) -> None:
    """Add a note of a tenant."""
    pool.open()
    with pool.connection() as connection:
        if tenant:
            connection.execute("SELECT set_config('app.tenant', %s, false)", [tenant])
            connection.commit()
        connection.execute("INSERT INTO notes VALUES (%s) ON CONFLICT DO NOTHING", [note])
