"""One module per driver under test, with a `DRIVER`: see `DriverUnderTest`."""
