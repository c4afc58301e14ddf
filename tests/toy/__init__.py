"""A driver that the package does not know, and what it takes to have the package look after it."""
