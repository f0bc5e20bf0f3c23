"""Counts of which some cells at a time are read, in memory or on disk alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy import sparse

CHUNK = 4096
"""Cells that are read at a time where all are read in order."""


class Counts(Protocol):
    """Raw counts, (cells, genes): a CSR matrix, or what reads rows of one from a disk.

    Attributes
    ----------
    shape
        Numbers of cells and genes.
    """

    @property
    def shape(self) -> tuple[int, int]: ...

    def __getitem__(self, cells: np.ndarray) -> sparse.csr_matrix:
        """The given cells, as CSR float32 without stored zeros."""
        ...


def chunks(counts: Counts, cells: np.ndarray | None = None) -> Iterator[sparse.csr_matrix]:
    """The counts of all cells, or of those given, some thousand cells at a time."""
    cells = np.arange(counts.shape[0]) if cells is None else cells
    for start in range(0, len(cells), CHUNK):
        yield counts[cells[start : start + CHUNK]]
