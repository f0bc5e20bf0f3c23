"""Sequencing depth and zeros of the cells."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.metrics.metric import Metric, Score


class LibrarySize(Metric):
    """Total counts per cell and the share of zeros."""

    title = "Depth"
    scores: ClassVar = {
        "library_median": Score("median library", "Median of the total counts per cell."),
        "library_wasserstein": Score(
            "library sizes, error", "1-Wasserstein distance of log(1 + total counts): 0.1 is about 10 %."
        ),
        "zero_fraction": Score("share of zeros", "Share of all counts that are zero."),
    }

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        difference = np.sort(np.log1p(cells.library)) - np.sort(np.log1p(half.library))
        return {
            "library_median": float(np.median(cells.library)),
            "library_wasserstein": float(np.abs(difference).mean()),
            "zero_fraction": 1 - cells.values.count_nonzero() / float(np.prod(cells.values.shape)),
        }
