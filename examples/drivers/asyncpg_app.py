"""asyncpg: the session is looked after, moved as in a failover, and put back.

Run it against a PostgreSQL server: ``python examples/drivers/asyncpg_app.py postgresql://shop@127.0.0.1/shop``
"""

import asyncio
import sys

import asyncpg

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out


async def main() -> None:
    """Change a session, move it and reset it."""
    connection = await asyncpg.connect(sys.argv[1])
    tenant = await connection.prepare("SELECT current_setting('app.tenant', true), current_setting('TimeZone')")

    await connection.execute("SET app.tenant = 'acme'; SET TimeZone = 'Asia/Tokyo'")
    print("changed:", instrumented_wrapper.session_state(connection))

    await instrumented_wrapper.switch_async(connection)  # another server session beneath the same object
    print("carried over:", *await tenant.fetchrow(), connection.get_server_pid())

    await instrumented_wrapper.reset_session_async(connection)  # as close() and a pool's release() do
    print("back to pristine:", *await tenant.fetchrow())
    await connection.close()


asyncio.run(main())
