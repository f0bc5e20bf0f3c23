"""Do the cells stay where real ones are, and reach all of it?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.metrics.distances import squared_distances
from latdiff_core.evaluation.metrics.metric import Metric, Score

NEIGHBOURS = 5


class Coverage(Metric):
    """Precision, recall, density and coverage in the principal components, k = 5.

    Kynkäänniemi et al. 2019, arXiv:1904.06991, Eq. 1-2; Naeem et al. 2020, arXiv:2002.09797, Eq. 3 and 5.
    """

    title = "Coverage"
    scores: ClassVar = {
        "precision": Score("precision", "Share of the cells that lie among real ones."),
        "recall": Score("recall", "Share of the real cells that lie among these: low when kinds of cells are missing."),
        "density": Score("density", "How densely real cells surround these; above the floor they crowd the middle."),
        "coverage": Score("coverage", "Share of the real cells that have one of these nearby."),
    }

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        return coverage(half.points, cells.points, min(NEIGHBOURS, len(half) - 1))


def coverage(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Precision, recall, density and coverage of ``fake`` (n, dim) with regard to ``real`` (m, dim)."""
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    between = squared_distances(real, fake)
    in_real = between < real_radii[:, None]  # (real, fake): the fake point lies in the real one's ball
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float((between < fake_radii[None]).any(1).mean()),
        "density": float(in_real.sum(0).mean() / k),
        "coverage": float((between.min(1) < real_radii).mean()),
    }


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other point."""
    return np.partition(squared_distances(points, points), k, axis=1)[:, k]
