"""The command, as a user types it, in this process."""

from __future__ import annotations

import sys

from hahbench import cli


def run_command(*arguments: object) -> int:
    """``hahbench`` with ``arguments``; its exit code."""
    before, sys.argv = sys.argv, ["hahbench", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0
