"""What may be told of a statement, judged by the databases' own parsers on generated texts."""
