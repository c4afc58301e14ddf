"""One file per database: what its statements do to a session, and its codes. Pure text, no driver."""
