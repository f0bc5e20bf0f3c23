"""The space that cells are compared in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from latdiff_core.data import counts_per_10k, principal_components
from latdiff_core.errors import DataError

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
        """Fit to raw counts (cells, genes); fewer components if the data has fewer cells or genes.

        Raises
        ------
        DataError
            If all cells are alike.
        """
        found = principal_components(counts, components, seed)
        if found is None:
            raise DataError("the training cells do not differ from each other, or are too few; nothing can be compared")
        return cls(mean=found.mean.numpy(), loadings=found.loadings.numpy())

    def project(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Raw counts (cells, genes) to coordinates (cells, components)."""
        return self.project_values(counts_per_10k(counts))

    def project_values(self, values: sparse.csr_matrix) -> np.ndarray:
        """log1p of counts per 10,000 (cells, genes) to coordinates (cells, components)."""
        coordinates: np.ndarray = values @ self.loadings - self.mean @ self.loadings
        return coordinates
