"""A minibatch of raw counts, sparse from the file to the likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.errors import require_shape
from latdiff_core.sparse_product import goes_sparse, sparse_product

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class CountBatch:
    """Raw counts of a batch of cells in compressed sparse row form.

    Attributes
    ----------
    indptr
        Where each cell's entries begin, (batch + 1,), int64.
    indices
        Gene index of each stored entry, (nonzeros,), int64.
    values
        Count of each stored entry, (nonzeros,), > 0, float32 (exact up to 16,777,216).
    genes
        Number of genes.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    genes: int

    @classmethod
    def from_csr(cls, matrix: csr_matrix) -> CountBatch:
        """Take over a scipy CSR matrix of shape (batch, genes)."""
        return cls(
            indptr=torch.as_tensor(matrix.indptr, dtype=torch.int64),
            indices=torch.as_tensor(matrix.indices, dtype=torch.int64),
            values=torch.as_tensor(matrix.data, dtype=torch.float32),
            genes=matrix.shape[1],
        )

    @classmethod
    def from_dense(cls, counts: Tensor) -> CountBatch:
        """Compress a dense tensor of shape (batch, genes), of any numeric dtype."""
        rows, indices = counts.nonzero(as_tuple=True)
        per_cell = torch.bincount(rows, minlength=len(counts))
        indptr = torch.cat([per_cell.new_zeros(1), per_cell.cumsum(0)])
        return cls(indptr, indices, counts[rows, indices].to(torch.float32), counts.shape[1])

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def rows(self) -> Tensor:
        """Cell index of each stored entry, (nonzeros,)."""
        cells = torch.arange(len(self), device=self.indptr.device)
        # The size is given because finding it out would wait for a GPU.
        return cells.repeat_interleave(self.indptr.diff(), output_size=len(self.indices))

    @cached_property
    def positions(self) -> Tensor:
        """Place of each stored entry in the flattened (batch, genes), (nonzeros,)."""
        return self.rows * self.genes + self.indices

    @cached_property
    def library(self) -> Tensor:
        """Total counts of each cell over the modelled genes, (batch,), float32."""
        return self.sum_per_cell(self.values)

    def times(self, entries: Tensor, table: Tensor) -> Tensor:
        """One number per stored entry, as (batch, genes), times ``table`` (genes, width); differentiable by ``table``.

        On a CPU only the stored entries are multiplied, unless a quarter of all or more are stored.
        """
        if goes_sparse(table.device, len(entries) / max(1, len(self) * self.genes)):
            return sparse_product(self.indptr, self.indices, entries, table)
        return self.dense(entries).to(table.dtype) @ table

    def sum_per_cell(self, entries: Tensor) -> Tensor:
        """Sum one number per stored entry, (nonzeros,), over each cell, (batch,).

        Raises
        ------
        ShapeError
            If there is not one number per stored entry.
        """
        require_shape("entries", entries, self.indices.shape)
        on_cpu = entries.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_cpu and entries.is_floating_point():  # four times as fast there
            return torch.segment_reduce(entries, "sum", offsets=self.indptr)
        return entries.new_zeros(len(self)).index_add(0, self.rows, entries)

    def dense(self, entries: Tensor | None = None) -> Tensor:
        """Spread the counts, or another number per stored entry, over (batch, genes)."""
        entries = self.values if entries is None else entries
        out = entries.new_zeros(len(self), self.genes)
        out[self.rows, self.indices] = entries
        return out

    def log1p_values(self) -> Tensor:
        """log(1 + counts per 10,000) of each stored entry, (nonzeros,)."""
        scale = 1e4 / self.library.clamp(min=1.0)
        return torch.log1p(self.values * scale.index_select(0, self.rows))

    def log1p_normalised(self) -> Tensor:
        """log(1 + counts per 10,000), (batch, genes): what an encoder should see instead of raw counts."""
        return self.dense(self.log1p_values())

    def to(self, device: torch.device | str) -> CountBatch:
        """Move to a device; only the stored entries travel."""
        indptr, indices, values = (moved(part, device) for part in (self.indptr, self.indices, self.values))
        return CountBatch(indptr, indices, values, self.genes)
