"""The data sets of the benchmarks and how each is split."""

from __future__ import annotations

from pathlib import Path

import anndata

from latdiff_core.data import stratified_split

DATA_SETS = {
    "pbmc3k": ("cell_type",),
    "pbmc_facs": ("cell_type",),
    "worm_neuron": ("cell_type",),
    "kang_ifnb_merged": ("cell_type", "condition"),
}
"""Each data set's conditions; the first is the label that everything is stratified and judged by."""
FEWEST_CELLS, FEWEST_TRAINING_CELLS, HELD_OUT = 20, 3, 0.3


def load_split(path: Path, label: str, seed: int = 0) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Training and held-out cells, 70/30, stratified by label.

    Labels with fewer than 20 cells, "unassigned" cells, and genes seen in fewer than 3 training cells are dropped.
    """
    cells = anndata.read_h5ad(path)
    sizes = cells.obs[label].value_counts()
    kept = [name for name in sizes.index[sizes >= FEWEST_CELLS] if name != "unassigned"]
    cells = cells[cells.obs[label].isin(kept)]
    train, test = stratified_split(cells.obs[label].astype(str).to_numpy(), HELD_OUT, seed)
    seen = cells.X[train].getnnz(axis=0) >= FEWEST_TRAINING_CELLS
    return cells[train][:, seen].copy(), cells[test][:, seen].copy()
