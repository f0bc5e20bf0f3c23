"""Trivial generators: what any real one has to beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from latdiff_core.evaluation.cells import gene_moments

TRIVIAL = ("mean profile", "gene by gene")
COPIES = ("training cells",)
BASELINES = TRIVIAL + COPIES
BASELINE_SPLITS = 5
"""Baselines are far off or at the floor; five splits tell."""
FEWEST_CELLS = 3
SMALLEST_EXCESS = 1e-6
BLOCK = 256


def baseline_counts(
    training: sparse.csr_matrix, training_labels: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> dict[str, sparse.csr_matrix]:
    """Counts of each trivial generator, (cells, genes), by name: one cell per label in ``labels``.

    ``mean profile``
        Poisson counts around the mean of the condition: right means, no biology within a condition.
    ``gene by gene``
        Negative binomial counts with each gene's mean and variance in the condition: no gene-gene structure.
    ``training cells``
        Training cells of the condition, drawn with replacement: perfect but for being copies.

    Conditions with fewer than three training cells are made from all training cells.
    """
    makers: dict[str, Callable[[sparse.csr_matrix, int], sparse.csr_matrix]] = {
        "mean profile": lambda cells, n: _poisson(cells, n, rng),
        "gene by gene": lambda cells, n: _negative_binomial(cells, n, rng),
        "training cells": lambda cells, n: cells[rng.integers(cells.shape[0], size=n)],
    }
    blocks: dict[str, list[sparse.csr_matrix]] = {name: [] for name in BASELINES}
    order = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        members = np.flatnonzero(training_labels == label)
        cells = training[members] if len(members) >= FEWEST_CELLS else training
        order.append(rows)
        for name, make in makers.items():
            blocks[name].append(make(cells, len(rows)))
    back = np.argsort(np.concatenate(order))
    return {name: sparse.vstack(parts, format="csr")[back] for name, parts in blocks.items()}


def _poisson(cells: sparse.csr_matrix, n: int, rng: np.random.Generator) -> sparse.csr_matrix:
    mean = np.asarray(cells.mean(0), dtype=np.float64).ravel()
    return _in_blocks(n, lambda rows: rng.poisson(mean, (rows, len(mean))))


def _negative_binomial(cells: sparse.csr_matrix, n: int, rng: np.random.Generator) -> sparse.csr_matrix:
    """Gamma-Poisson with Var = mu + mu^2 / theta by moments; genes without overdispersion are Poisson."""
    mean, variance = gene_moments(cells)
    dispersed = variance > mean * (1 + SMALLEST_EXCESS)
    theta = mean[dispersed] ** 2 / (variance - mean)[dispersed]

    def draw(rows: int) -> np.ndarray:
        rates = np.broadcast_to(mean, (rows, len(mean))).copy()
        rates[:, dispersed] = rng.gamma(theta, mean[dispersed] / theta, (rows, len(theta)))
        return rng.poisson(rates)

    return _in_blocks(n, draw)


def _in_blocks(n: int, draw: Callable[[int], np.ndarray]) -> sparse.csr_matrix:
    """Dense draws of some cells at a time, (n, genes): all of them would be gigabytes."""
    sizes = [min(BLOCK, n - start) for start in range(0, n, BLOCK)]
    return sparse.vstack([sparse.csr_matrix(draw(size).astype(np.float32)) for size in sizes], format="csr")
