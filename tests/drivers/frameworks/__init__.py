"""Frameworks over each driver, and the loops that the documentation shows."""
