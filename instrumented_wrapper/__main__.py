"""``python -m instrumented_wrapper``: the overview, and ``doctor``."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run what the arguments name; return the exit code."""
    if not arguments:
        from instrumented_wrapper.doctor import overview

        return overview.main()
    from instrumented_wrapper.doctor import command_line

    return command_line.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
