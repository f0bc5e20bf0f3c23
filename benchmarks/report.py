"""The report of one run of `quality.py`, as a page of the book: `python benchmarks/report.py --data FOLDER`.

The run's generated cells must be there (`benchmarks/results/cells`, not in the repository); they are evaluated again,
with ten splits, and become `book/_static/DATA_report.html`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata
import torch
from runs import BOOK, CELLS
from splits import LABEL, TUNED_ON, load_split

from latdiff_core.evaluation import evaluate, write_report


def main() -> None:
    """Evaluate the kept cells and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--set", default="pbmc3k", choices=TUNED_ON)
    parser.add_argument("--generator", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train, test = load_split(arguments.data / f"{arguments.set}.h5ad")
    kept = CELLS / "quality" / f"{arguments.set}-{arguments.generator}-{arguments.seed}.h5ad"
    found = evaluate(test, anndata.read_h5ad(kept), train, [LABEL], seed=arguments.seed, progress=True)
    write_report(found, BOOK / "_static" / f"{arguments.set}_report.html")


if __name__ == "__main__":
    main()
