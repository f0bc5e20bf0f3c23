"""How widely a decoder's cells spread along principal components, beside the cells that they are reconstructions of."""

from __future__ import annotations

import math

import torch
from scipy import sparse
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import CountDistribution, PrincipalComponents

COMPONENTS = 30
"""Those in which generated cells are compared with real ones."""
SMALLEST_VARIANCE = 1e-12
"""Few validation cells may not vary at all along a component."""


class Spread:
    """Variances of cells and of their reconstructions along the first principal components of the training cells.

    Add batches of cells that were not trained on: along components of the training cells those vary more than others.
    """

    def __init__(self, components: PrincipalComponents) -> None:
        self.loadings = components.loadings[:, :COMPONENTS]
        self.offset = components.mean @ self.loadings
        self.sums = torch.zeros(2, 3, self.loadings.shape[1], dtype=torch.float64)
        """Of cells and of their reconstructions: number, sum and sum of squares along each component."""

    def add(self, counts: CountBatch, reconstructed: CountDistribution, generator: torch.Generator) -> None:
        """One draw from the distribution of every cell, beside the cell."""
        drawn = CountBatch.from_csr(sparse.csr_matrix(reconstructed.sample_csr(generator), dtype="float32"))
        for sums, cells in zip(self.sums, (counts, drawn.to(counts.values.device)), strict=True):
            points = self._points(cells).double().cpu()
            sums += torch.stack([torch.full_like(points[0], len(points)), points.sum(0), points.square().sum(0)])

    def log_ratio(self) -> tuple[float, float]:
        """Mean over the components of log(variance of reconstructions / variance of cells), and its standard error.

        The error is that of independent normal points, whose log variance has a variance of 2 / n. Of fewer than two
        cells the ratio is 0.
        """
        n, first, second = self.sums.unbind(1)
        if n.min() < 2:
            return 0.0, math.inf
        variances = (second / n - (first / n).square()).clamp(min=SMALLEST_VARIANCE)
        ratios = variances[1].log() - variances[0].log()
        return float(ratios.mean()), math.sqrt(4 / (float(n[0, 0]) * len(ratios)))

    def _points(self, cells: CountBatch) -> Tensor:
        loadings, offset = (x.to(cells.values.device) for x in (self.loadings, self.offset))
        return cells.times(cells.log1p_values(), loadings) - offset
