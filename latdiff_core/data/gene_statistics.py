"""What encoders and decoders start from, summed over cells that are read a chunk at a time."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from latdiff_core.data.chunks import Counts, chunks
from latdiff_core.data.raw_counts import counts_per_10k
from latdiff_core.interfaces import GeneStatistics, PrincipalComponents

THETA_RANGE = (0.01, 100.0)
COMPONENTS = 50
MOST_CELLS = 20_000
"""Principal components of more cells are hardly different, and take much longer."""
SMALLEST_STD = 1e-6


def gene_statistics(counts: Counts, cells: np.ndarray | None = None) -> GeneStatistics:
    """Mean profile, method-of-moments dispersion, and principal components, of all cells or of those given.

    With mu_ij = library_i x fraction_j, theta_j = sum mu^2 / sum((x - mu)^2 - mu). All sums are of integers and so
    exact in float64: how the cells are cut into chunks makes no difference.
    """
    cells = np.arange(counts.shape[0]) if cells is None else cells
    totals, squares, cross = np.zeros((3, counts.shape[1]))
    libraries = []
    for chunk in chunks(counts, cells):
        chunk = chunk.astype(np.float64)
        library = np.asarray(chunk.sum(1)).ravel()
        totals += np.asarray(chunk.sum(0)).ravel()
        squares += np.asarray(chunk.multiply(chunk).sum(0)).ravel()
        cross += chunk.T @ library
        libraries.append(library)
    library = np.concatenate(libraries)
    fraction = (totals + 0.5) / (totals + 0.5).sum()
    mu_squares = fraction**2 * (library**2).sum()
    excess = squares - 2 * fraction * cross + mu_squares - fraction * library.sum()
    theta = np.where(excess > 0, mu_squares / np.where(excess > 0, excess, 1.0), THETA_RANGE[1])
    sample = np.sort(np.random.default_rng(0).permutation(len(cells))[:MOST_CELLS])
    return GeneStatistics(
        fraction=torch.as_tensor(fraction, dtype=torch.float32),
        theta=torch.as_tensor(theta.clip(*THETA_RANGE), dtype=torch.float32),
        log_library=float(np.log(np.maximum(library, 1)).mean()),
        components=principal_components(counts[cells[sample]].astype(np.float64), COMPONENTS),
    )


def principal_components(counts: sparse.csr_matrix, most: int, seed: int = 0) -> PrincipalComponents | None:
    """Principal components of log1p counts per 10,000.

    There are ``most`` of them, or as many as cells and genes allow; None if that is none, or all cells are alike.
    """
    from sklearn.decomposition import PCA

    components = min(most, counts.shape[0] - 1, counts.shape[1] - 1)
    values = counts_per_10k(counts)
    if components < 1 or (values.max(0) != values.min(0)).nnz == 0:
        return None
    pca = PCA(components, svd_solver="arpack", random_state=seed).fit(values)
    arrays = (pca.mean_, pca.components_.T.copy(), np.sqrt(pca.explained_variance_).clip(SMALLEST_STD))
    return PrincipalComponents(*(torch.as_tensor(a, dtype=torch.float32) for a in arrays))
