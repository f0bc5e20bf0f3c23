"""Seeded splits into training and held-out cells."""

from __future__ import annotations

import numpy as np


def stratified_split(labels: np.ndarray, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and held-out cells, the given share of every label held out, both in ascending order.

    A label with a single cell stays in training.
    """
    rng = np.random.default_rng(seed)
    out = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        out.append(members[: min(round(held_out * len(members)), len(members) - 1)])
    test = np.sort(np.concatenate(out))
    return np.setdiff1d(np.arange(len(labels)), test), test
