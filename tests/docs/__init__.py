"""The documentation: every block of code and every command on a page runs, or says what else proves it."""
