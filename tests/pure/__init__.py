"""Tests of the pure modules: tables and models, no server."""
