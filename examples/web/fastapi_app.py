r"""A multi-tenant FastAPI app in one file, on SQLAlchemy's asyncio and psycopg: PostgreSQL separates the tenants' rows.

It knows nothing of this package. A request sets its tenant for the session, as many apps do, and SQLAlchemy's pool
passes the session on to the next request. A transaction that loses its server is run again, on the same connection:
the key of a note is the client's, so that none is there twice.

    DATABASE_URL='postgresql+psycopg://app@/app?host=one:5432&host=two:5432&target_session_attrs=read-write' \
        uvicorn fastapi_app:app

`notes.sql` makes the table.
"""

import os
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import Body, Depends, FastAPI, Header
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=8)


async def tenant(x_tenant: Annotated[str, Header()] = "") -> AsyncIterator[AsyncConnection]:
    """Take a connection for the request, and name its tenant to the database."""
    async with engine.connect() as connection:
        if x_tenant:
            await connection.execute(text("SELECT set_config('app.tenant', :tenant, false)"), {"tenant": x_tenant})
            await connection.commit()
        yield connection


Tenant = Annotated[AsyncConnection, Depends(tenant)]


async def write(connection: AsyncConnection, note: str) -> Sequence[str]:
    """Write a note, if there is one, and return all of the tenant, in one transaction."""
    async with connection.begin():
        if note:
            await connection.execute(text("INSERT INTO notes VALUES (:text) ON CONFLICT DO NOTHING"), {"text": note})
        return (await connection.scalars(text("SELECT text FROM notes ORDER BY text"))).all()


async def run(connection: AsyncConnection, note: str = "") -> Sequence[str]:
    """Run the transaction, and once more where the first one was lost."""
    try:
        return await write(connection, note)
    except OperationalError:
        return await write(connection, note)


@app.get("/")
async def show(connection: Tenant) -> Sequence[str]:
    """Show the notes of the tenant."""
    return await run(connection)


@app.post("/")
async def add(connection: Tenant, note: Annotated[str, Body(media_type="text/plain")]) -> Sequence[str]:
    """Add a note."""
    return await run(connection, note)
