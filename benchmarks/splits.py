"""The data sets of the benchmarks and how each is split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata

from latdiff_core.data import stratified_split

LABEL = "cell_type"
"""What every data set is stratified, generated and judged by."""
TUNED_ON = ("pbmc3k", "pbmc_facs", "worm_neuron", "kang_ifnb_merged")
"""The data sets that the default recipe was chosen on."""
UNSEEN = {"cbmc_citeseq2k": LABEL, "papalexi_thp1_crispr": "perturbation", "gasperini_k562": "perturbation"}
"""Those that nothing was chosen on, by the column that their labels are in."""
DATA_SETS = (*TUNED_ON, *UNSEEN)
FEWEST_CELLS, FEWEST_TRAINING_CELLS, HELD_OUT = 20, 3, 0.3


def load_split(path: Path, seed: int = 0, strata: Sequence[str] = (LABEL,)) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Training and held-out cells of a data set; see ``split``."""
    cells = anndata.read_h5ad(path)
    cells.obs[LABEL] = cells.obs[UNSEEN.get(path.stem, LABEL)]
    return split(cells, seed, strata)


def split(
    cells: anndata.AnnData, seed: int = 0, strata: Sequence[str] = (LABEL,)
) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Training and held-out cells, 70/30, stratified by label, or by several columns together.

    Labels with fewer than 20 cells, "unassigned" cells, and genes seen in fewer than 3 training cells are dropped.
    """
    sizes = cells.obs[LABEL].value_counts()
    kept = [name for name in sizes.index[sizes >= FEWEST_CELLS] if name != "unassigned"]
    cells = cells[cells.obs[LABEL].isin(kept)]
    train, test = stratified_split(cells.obs[list(strata)].astype(str).sum(axis=1).to_numpy(), HELD_OUT, seed)
    seen = cells.X[train].getnnz(axis=0) >= FEWEST_TRAINING_CELLS
    return cells[train][:, seen].copy(), cells[test][:, seen].copy()
