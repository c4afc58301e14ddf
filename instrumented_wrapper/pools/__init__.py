"""One file per connection pool, over any driver: when a connection is checked out, and when it comes back."""
