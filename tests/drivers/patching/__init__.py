"""How drivers are registered, checked, patched and put back."""
