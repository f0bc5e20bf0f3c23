"""The space that cells are compared in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from latdiff_core.data import counts_per_10k

COMPONENTS = 30


@dataclass(frozen=True)
class ExpressionSpace:
    """Principal components of log1p counts per 10,000, fitted on reference cells.

    Every set of cells is centred by the reference's means: projecting one without the centring of the other would make
    all distances meaningless.

    Attributes
    ----------
    mean
        Mean of each gene over the reference cells, (genes,).
    loadings
        Orthonormal columns, (genes, components).
    """

    mean: np.ndarray
    loadings: np.ndarray

    @classmethod
    def fit(cls, counts: sparse.csr_matrix, components: int = COMPONENTS, seed: int = 0) -> Self:
        """Fit to raw counts (cells, genes); fewer components if the data has fewer cells or genes."""
        from sklearn.decomposition import PCA

        components = min(components, min(counts.shape) - 1)
        pca = PCA(components, svd_solver="arpack", random_state=seed).fit(counts_per_10k(counts))
        return cls(mean=pca.mean_, loadings=pca.components_.T)

    def project(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Raw counts (cells, genes) to coordinates (cells, components)."""
        return self.project_values(counts_per_10k(counts))

    def project_values(self, values: sparse.csr_matrix) -> np.ndarray:
        """log1p of counts per 10,000 (cells, genes) to coordinates (cells, components)."""
        coordinates: np.ndarray = values @ self.loadings - self.mean @ self.loadings
        return coordinates
