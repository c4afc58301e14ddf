"""What is special to psycopg2, on real servers."""
