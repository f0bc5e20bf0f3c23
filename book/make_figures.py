"""Draw the figure of the README and of the landing page: `python book/make_figures.py`, a few minutes.

It is the overview that `latdiff demo` leaves in its folder.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from latdiff_core.trial import run_demo


def main() -> None:
    """Run the demo, keep its overview as `book/images/demo.png`."""
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(Path(folder) / "demo").folder
        shutil.copy(demo / "overview.png", Path(__file__).parent / "images" / "demo.png")


if __name__ == "__main__":
    main()
