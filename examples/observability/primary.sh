# The image of PostgreSQL reads this once, when it makes the database: lets the standby in, makes the app's table.
echo "host replication all all trust" >>"$PGDATA/pg_hba.conf"
psql --set=ON_ERROR_STOP=1 --username=postgres --dbname=app \
    --command="CREATE TABLE orders (number int PRIMARY KEY, written timestamptz NOT NULL DEFAULT now())"
