"""Distances between two samples of points."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np

from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.metrics.metric import Metric, Score

BANDWIDTHS = (0.5, 1.0, 2.0)


class Distances(Metric):
    """How far the cells as a whole lie from real ones in the principal components."""

    title = "Distances"
    scores: ClassVar = {
        "w2": Score(
            "2-Wasserstein distance",
            "How far cells must be moved, on average, to turn one set into the other; above the floor they lie "
            "elsewhere, below it they vary too little.",
        ),
        "mmd2": Score(
            "MMD², unbiased",
            "Whether the two sets are equally dense everywhere; around zero for cells of one population.",
        ),
    }

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        return {"w2": wasserstein2(cells.points, half.points), "mmd2": mmd2(cells.points, half.points)}


def wasserstein2(a: np.ndarray, b: np.ndarray) -> float:
    """Exact 2-Wasserstein distance between two point sets (n, dim) of equal weight, by optimal transport."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT's docstrings have escapes that a first import complains about
        import ot

    weights = [np.full(len(x), 1 / len(x)) for x in (a, b)]
    return float(np.sqrt(max(0.0, ot.emd2(*weights, squared_distances(a, b), numItermax=1_000_000))))


def mmd2(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3), around 0 for equal distributions.

    The kernel is the mean of three Gaussians exp(-d^2 / (c m)), m the median squared distance between points of the
    pooled sample and c = 0.5, 1, 2.
    """
    within_a, within_b, between = squared_distances(a, a), squared_distances(b, b), squared_distances(a, b)
    pairs = [d[np.triu_indices(len(d), 1)] for d in (within_a, within_b)]
    median = float(np.median(np.concatenate([*pairs, between.ravel()])))

    def kernel(d: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([np.exp(-d / (c * median)) for c in BANDWIDTHS], axis=0))

    return float(kernel(pairs[0]).mean() + kernel(pairs[1]).mean() - 2 * kernel(between).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of every pair, (n, m)."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b, metric="sqeuclidean"), dtype=np.float64)
