"""aiosqlite: the session is looked after in its thread, and put back. There is no server, and so no failover.

Run it: ``python examples/drivers/aiosqlite_app.py /tmp/app.db``
"""

import asyncio
import sys

import aiosqlite

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out


async def main() -> None:
    """Change a session and reset it."""
    async with aiosqlite.connect(sys.argv[1]) as connection:
        await connection.execute("PRAGMA foreign_keys = ON")
        await connection.execute("PRAGMA busy_timeout = 250")
        print("changed:", instrumented_wrapper.session_state(connection))

        await instrumented_wrapper.reset_session_async(connection)  # as close() does
        for name in ("foreign_keys", "busy_timeout"):
            async with connection.execute(f"PRAGMA {name}") as cursor:
                print("back to pristine:", name, await cursor.fetchone())


asyncio.run(main())
