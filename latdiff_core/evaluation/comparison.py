"""The table: generated cells against held-out real ones, each figure beside its floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from latdiff_core.data import aligned_counts, counts_per_10k, raw_counts
from latdiff_core.errors import DataError
from latdiff_core.evaluation.distances import mmd2, wasserstein2
from latdiff_core.evaluation.space import ExpressionSpace

if TYPE_CHECKING:
    from anndata import AnnData

SPLITS = 5
MOST_CELLS = 2000
"""Exact transport grows with the cube of the number of cells."""


def compare(
    real: AnnData, synthetic: AnnData, reference: AnnData, seed: int = 0, layer: str | None = None
) -> pd.DataFrame:
    """Compare generated cells with held-out real ones.

    The held-out cells are split in two at random, five times. Generated cells are compared with one half, in the
    column ``synthetic``; the other half with the same half, in the column ``real``: what a perfect generator would
    score. All sets have the same number of cells; above 2,000 a random 2,000 are taken.

    Parameters
    ----------
    real
        Held-out cells with raw counts.
    synthetic
        Generated counts, at least half as many cells.
    reference
        Training cells, which the principal components are fitted on.
    layer
        Layer with the raw counts of the real cells; ``X`` when None.

    Returns
    -------
    DataFrame
        Metrics in rows; columns ``synthetic``, ``real`` and ``cells`` (per side).

    Raises
    ------
    DataError
        If genes differ, or there are too few cells.
    """
    genes = list(map(str, reference.var_names))
    real_counts = aligned_counts(real, genes, layer, whose="the reference's")
    if dict(synthetic.uns.get("latdiff", {})).get("expression", "counts") != "counts":
        raise DataError(
            f"the generated cells hold {synthetic.uns['latdiff']['expression']}, not counts, and are not compared: "
            "generate without mean, from a model whose decoder generates counts"
        )
    fake_counts = aligned_counts(synthetic, genes, allow_empty=True, whose="the reference's")
    space = ExpressionSpace.fit(raw_counts(reference, layer), seed=seed)
    n = min(real.n_obs // 2, synthetic.n_obs, MOST_CELLS)
    if n < 10:
        raise DataError(
            f"{real.n_obs} real and {synthetic.n_obs} synthetic cells are too few to compare; "
            "at least 20 and 10 are needed"
        )
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(SPLITS):
        order = rng.permutation(real.n_obs)
        half, other = real_counts[order[:n]], real_counts[order[n : 2 * n]]
        fake = fake_counts[rng.choice(synthetic.n_obs, n, replace=False)]
        rows.append({"synthetic": _metrics(fake, half, space), "real": _metrics(other, half, space)})
    means = {side: pd.DataFrame([row[side] for row in rows]).mean() for side in ("synthetic", "real")}
    table: pd.DataFrame = pd.DataFrame(means).assign(cells=n).rename_axis("metric")
    return table


def _metrics(cells: sparse.csr_matrix, half: sparse.csr_matrix, space: ExpressionSpace) -> dict[str, float]:
    a, b = space.project(cells), space.project(half)
    mean_a, variance_a = gene_moments(cells)
    mean_b, variance_b = gene_moments(half)
    return {
        "2-Wasserstein, 30 PCs": wasserstein2(a, b),
        "MMD^2 (unbiased), 30 PCs": mmd2(a, b),
        "gene mean correlation": float(np.corrcoef(mean_a, mean_b)[0, 1]),
        "gene variance correlation": float(np.corrcoef(variance_a, variance_b)[0, 1]),
        "zero fraction": 1 - cells.nnz / np.prod(cells.shape),
        "median library": float(np.median(np.asarray(cells.sum(1)))),
    }


def gene_moments(counts: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each gene's log1p counts per 10,000, (genes,) each."""
    values = counts_per_10k(counts)
    mean = np.asarray(values.mean(0)).ravel()
    return mean, np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
