"""What instrumentation costs: ``python -m benchmarks`` compares bare psycopg with psycopg under us, in one run."""
