"""Decide once, for all drivers: what the rooms of the drivers share, sync and async."""
