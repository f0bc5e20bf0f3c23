"""The command line: ``latdiff``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors addressed to users are printed without a traceback, with exit status 1."""
    from latdiff_core.cli.app import app
    from latdiff_core.errors import LatdiffError

    try:
        app()
    except (LatdiffError, OSError) as error:  # a full disk or a folder without permission is the user's to mend
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
