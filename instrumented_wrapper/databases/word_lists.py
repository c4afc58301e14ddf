"""Load lists of words from the text files beside the modules that use them."""

from __future__ import annotations

import pkgutil


def words_in(package: str, file: str) -> frozenset[str]:
    """Return the words of a text file of `package`; lines that begin with ``#`` are comments."""
    lines = (pkgutil.get_data(package, file) or b"").decode().splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
