"""What is special to psycopg, sync and async, on real servers."""
