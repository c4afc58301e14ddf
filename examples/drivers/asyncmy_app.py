"""asyncmy: the session is looked after, moved as in a failover, and put back.

Run it against MariaDB or MySQL:
``python examples/drivers/asyncmy_app.py 127.0.0.1 3306 user password database``
"""

import asyncio
import sys

import asyncmy

import instrumented_wrapper

instrumented_wrapper.instrument()  # or start the program with opentelemetry-instrument, and leave this out


async def main() -> None:
    """Change a session, move it and reset it."""
    host, port, user, password, database = sys.argv[1:]
    async with asyncmy.connect(host=host, port=int(port), user=user, password=password, db=database) as connection:
        cursor = connection.cursor()

        await connection.autocommit(True)
        await cursor.execute("SET time_zone = '+02:00', @tenant = 'acme'")
        print("changed:", instrumented_wrapper.session_state(connection))

        await instrumented_wrapper.switch_async(connection)  # another server session beneath the same object
        await cursor.execute("SELECT @@time_zone, @tenant, CONNECTION_ID()")
        print("carried over:", await cursor.fetchone())
        await connection.rollback()

        await instrumented_wrapper.reset_session_async(connection)  # as ensure_closed() and a pool's release() do
        await cursor.execute("SELECT @@time_zone, @tenant")
        print("back to pristine:", await cursor.fetchone())


asyncio.run(main())
