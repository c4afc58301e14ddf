# Copies the primary, once, and follows it from then on.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    pg_basebackup --host=primary --username=postgres --pgdata="$PGDATA" --checkpoint=fast --write-recovery-conf
fi
exec postgres
