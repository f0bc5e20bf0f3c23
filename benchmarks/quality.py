"""How close generated cells are to real ones: `python benchmarks/quality.py --data FOLDER`.

Every generator on every data set with every seed: fit on 70 % of the cells, one cell generated per held-out label, both
evaluated by `latdiff_core.evaluation`. Each run leaves a JSON in `benchmarks/results/quality`; what is there already is
not repeated unless its recipe has changed, so the command can be stopped at any time and called again, and several
processes with different `--generators` or `--sets` may share the folder. `--sets` may also name data that no recipe was
tuned on. All results become
`benchmarks/results/quality.csv` and, as a table, `book/quality.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from generators import GENERATORS
from quality_table import write_tables
from runs import RESULTS, run_once
from splits import DATA_SETS, TUNED_ON


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--sets", nargs="+", default=list(TUNED_ON), choices=DATA_SETS)
    parser.add_argument("--generators", nargs="+", default=list(GENERATORS), choices=GENERATORS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for generator in arguments.generators:
            for name in arguments.sets:
                data = arguments.data / f"{name}.h5ad"
                run_once(generator, GENERATORS[generator], data, seed, RESULTS / "quality", arguments.threads)
    write_tables("quality", "Quality")


if __name__ == "__main__":
    main()
