"""The product of stored entries with a table, against the dense one."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.counts import CountBatch
from latdiff_core.sparse_product import DENSE_FROM, goes_sparse


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_and_its_gradient_are_the_dense_ones(share, dtype):
    """Sparse and dense counts, with cells and genes that have none."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 11, generator=generator) * (torch.rand(7, 11, generator=generator) < share)
    x[2], x[:, 5] = 0, 0
    counts = CountBatch.from_dense(x)
    tables = [torch.randn(11, 3, generator=generator, dtype=dtype).requires_grad_()]
    tables.append(tables[0].detach().clone().requires_grad_())
    weight = torch.randn(7, 3, generator=generator, dtype=dtype)
    products = counts.times(counts.values, tables[0]), x.to(dtype) @ tables[1]
    for product in products:
        (product * weight).sum().backward()
    torch.testing.assert_close(*products)
    torch.testing.assert_close(tables[0].grad, tables[1].grad)


def test_the_faster_way_is_taken():
    """Only the stored entries where most are zeros and the processor is a CPU; otherwise all."""
    assert goes_sparse(torch.device("cpu"), 0.06)
    assert not goes_sparse(torch.device("cpu"), DENSE_FROM)
    assert not goes_sparse(torch.device("cuda"), 0.06)
