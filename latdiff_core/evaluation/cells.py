"""What metrics see of a set of cells, and of the training cells that everything is measured by."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from latdiff_core.evaluation.space import ExpressionSpace

VARIABLE_GENES = 1000


@dataclass(frozen=True)
class CellSet:
    """Cells as metrics see them.

    Attributes
    ----------
    values
        log1p of counts per 10,000, CSR (cells, genes).
    counts
        Raw counts, CSR (cells, genes); None where only normalised values are known.
    points
        Principal components, (cells, components), centred by the training cells' means.
    labels
        Condition of each cell, (cells,) of str; one label for all when no condition is compared.
    """

    values: sparse.csr_matrix
    counts: sparse.csr_matrix | None
    points: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: np.ndarray) -> CellSet:
        counts = None if self.counts is None else self.counts[rows]
        return CellSet(self.values[rows], counts, self.points[rows], self.labels[rows])

    @property
    def library(self) -> np.ndarray:
        """Total counts, (cells,); NaN where only normalised values are known."""
        if self.counts is None:
            return np.full(len(self), np.nan)
        return np.asarray(self.counts.sum(1)).ravel()


@dataclass(frozen=True)
class Reference:
    """The training cells, and what is learned from them once.

    Attributes
    ----------
    cells
        The training cells, or a random part of them.
    points
        Principal components of all training cells, (cells, components).
    space
        Principal components fitted on them.
    genes
        Gene names, in the order of all cells' columns.
    effects
        The conditions whose effect is compared, each with its control; None where that is all other cells.
    seed
        Seed of every classifier.
    """

    cells: CellSet
    points: np.ndarray
    space: ExpressionSpace
    genes: tuple[str, ...]
    effects: Mapping[str, str | None]
    seed: int

    @cached_property
    def variable_genes(self) -> np.ndarray:
        """The 1,000 genes whose log-normalised values vary most, most variable first, as columns."""
        mean, variance = gene_moments(self.cells.values)
        expressed = np.flatnonzero(mean > 0)
        return expressed[np.argsort(-variance[expressed], kind="stable")[:VARIABLE_GENES]]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The conditions of the training cells."""
        return tuple(np.unique(self.cells.labels))

    @cached_property
    def classifier(self) -> Any:
        """Tells the conditions of the training cells apart by their principal components."""
        return label_classifier(self.cells)

    @cached_property
    def neighbours(self) -> Any:
        """Index of all training cells' principal components."""
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(n_neighbors=1).fit(self.points)


def label_classifier(cells: CellSet) -> Any:
    """Logistic regression from standardised principal components to labels; needs two labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # rare conditions are the user's
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(cells.points, cells.labels)


def gene_moments(values: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each gene, (genes,) each."""
    values = values.astype(np.float64)
    mean = np.asarray(values.mean(0)).ravel()
    return mean, np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
