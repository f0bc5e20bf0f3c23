"""The command line: ``latdiff``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors addressed to users are printed without a traceback, with exit status 1."""
    from latdiff_core.cli.app import app
    from latdiff_core.errors import LatdiffError

    try:
        app()
    except LatdiffError as error:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print("[bold red]error:[/]", end=" ")
        print(error, file=sys.stderr)
        sys.exit(1)
