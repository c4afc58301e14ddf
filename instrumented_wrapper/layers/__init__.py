"""Packages that lie over any driver and replace its connections themselves, one room each."""
