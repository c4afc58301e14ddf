"""One module per connection pool, over any driver: when a connection is checked out, and when it is returned."""
