"""A sparse matrix of cells and genes times a table of one row per gene: the first layer of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import embedding_bag

DENSE_FROM = 0.25
"""Share of non-zeros from which the dense product is the faster one on a CPU (`benchmarks/speed.py` measures both)."""


def goes_sparse(device: torch.device, share: float) -> bool:
    """Whether a product at this share of non-zeros is best made from the stored entries alone."""
    return device.type == "cpu" and share < DENSE_FROM


def sparse_product(indptr: Tensor, indices: Tensor, entries: Tensor, table: Tensor) -> Tensor:
    """The CSR matrix (batch, genes) times ``table`` (genes, width), as (batch, width); differentiable by the table."""
    product: Tensor = _SparseProduct.apply(indptr, indices, entries.to(table.dtype), table)  # type: ignore[no-untyped-call]
    return product


class _SparseProduct(Function):
    """Each cell's product is a weighted bag of rows of the table, each gene's gradient one of the cells' gradients."""

    @staticmethod
    def forward(ctx: Any, indptr: Tensor, indices: Tensor, entries: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(indptr, indices, entries)
        ctx.genes = len(table)
        return _bags(table, indices, indptr, entries)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, Tensor | None]:
        from scipy.sparse import csr_matrix

        if not ctx.needs_input_grad[3]:
            return None, None, None, None
        indptr, indices, entries = (x.cpu().numpy() for x in ctx.saved_tensors)
        by_gene = csr_matrix((entries, indices, indptr), shape=(len(gradient), ctx.genes)).tocsc()
        cells, ends = (torch.as_tensor(x, dtype=torch.int64) for x in (by_gene.indices, by_gene.indptr))
        weights = torch.as_tensor(by_gene.data)
        return None, None, None, _bags(gradient.contiguous(), cells, ends, weights)


def _bags(table: Tensor, rows: Tensor, indptr: Tensor, weights: Tensor) -> Tensor:
    """Sums of weighted rows of a table between consecutive ends."""
    sums: Tensor = embedding_bag(rows, table, indptr, mode="sum", per_sample_weights=weights, include_last_offset=True)
    return sums
