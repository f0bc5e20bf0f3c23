"""How close generated cells are to held-out cells of one data set: `python benchmarks/held_out.py data.h5ad`.

The data are split 70/30, stratified by label, after labels with fewer than 20 cells and genes seen in fewer than 3
training cells are dropped. The default recipe is fitted on the 70 %; as many cells of each label as were held out are
generated; the table has each figure beside what real cells score among themselves.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata
import numpy as np
import torch

from latdiff_core import LatentDiffusion
from latdiff_core.configs import parse_override
from latdiff_core.data import stratified_split
from latdiff_core.evaluation import evaluate

FEWEST_CELLS, FEWEST_TRAINING_CELLS, HELD_OUT = 20, 3, 0.3


def load_split(path: Path, label: str, seed: int) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Training and held-out cells."""
    cells = anndata.read_h5ad(path)
    sizes = cells.obs[label].value_counts()
    kept = [name for name in sizes.index[sizes >= FEWEST_CELLS] if name != "unassigned"]
    cells = cells[cells.obs[label].isin(kept)]
    train, test = stratified_split(cells.obs[label].astype(str).to_numpy(), HELD_OUT, seed)
    seen = cells.X[train].getnnz(axis=0) >= FEWEST_TRAINING_CELLS
    return cells[train][:, seen].copy(), cells[test][:, seen].copy()


def main() -> None:
    """Fit, generate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--label", default="cell_type")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train, test = load_split(arguments.data, arguments.label, arguments.seed)
    overrides = {"training.seed": arguments.seed, **dict(map(parse_override, arguments.set))}
    model = LatentDiffusion.from_recipe(arguments.recipe, [arguments.label], overrides)
    start = time.perf_counter()
    model.fit(train)
    fitted = time.perf_counter()
    synthetic = model.generate(conditions=test.obs[[arguments.label]], seed=arguments.seed)
    generated = time.perf_counter()
    found = evaluate(test, synthetic, train, [arguments.label], seed=arguments.seed)
    print(f"{arguments.data.stem}: {train.n_obs} training and {test.n_obs} held-out cells x {train.n_vars} genes")
    print(f"recipe {arguments.recipe}, seed {arguments.seed}, {arguments.threads} threads")
    print(f"fit {fitted - start:.0f} s, generate {test.n_obs / (generated - fitted):.0f} cells/s")
    for name, value in model.fitted.provenance["metrics"].items():
        print(f"  {name}: {value:.6g}")
    print(found.table.round(4).to_string())
    libraries = [np.median(np.asarray(cells.X.sum(1))) for cells in (synthetic, test)]
    print(f"median library: generated {libraries[0]:.0f}, held-out {libraries[1]:.0f}")


if __name__ == "__main__":
    main()
