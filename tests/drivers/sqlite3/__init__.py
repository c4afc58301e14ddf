"""What is special to sqlite3."""
