"""``python -m latdiff_core.cli``: the command line without the installed script."""

from latdiff_core.cli import main

main()
