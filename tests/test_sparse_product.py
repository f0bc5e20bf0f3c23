"""The product of stored entries with a table, against the dense one."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from latdiff_core import counts as counts_module
from latdiff_core.counts import CountBatch
from latdiff_core.sparse_product import DENSE_FROM, sparse_product

CELLS, GENES, WIDTH = 40, 30, 3


def counts_with(share: float) -> torch.Tensor:
    """Random counts of a share of non-zeros, with a cell and a gene that have none."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 50, (CELLS, GENES), generator=generator) * (
        torch.rand(CELLS, GENES, generator=generator) < share
    )
    x[2], x[:, 5] = 0, 0
    return x.float()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_and_its_gradient_are_the_dense_ones(share, dtype):
    x = counts_with(share)
    counts = CountBatch.from_dense(x)
    tables = [torch.randn(GENES, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()]
    tables.append(tables[0].detach().clone().requires_grad_())
    weight = torch.randn(CELLS, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(2))
    products = (
        sparse_product(counts.indptr, counts.indices, counts.values, tables[0]),
        x.to(dtype) @ tables[1],
    )
    for product in products:
        (product * weight).sum().backward()
    torch.testing.assert_close(*products)
    torch.testing.assert_close(tables[0].grad, tables[1].grad)


def test_the_gradient_is_that_of_small_differences():
    counts = CountBatch.from_dense(counts_with(0.1))
    table = torch.randn(GENES, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradcheck(
        lambda t: sparse_product(counts.indptr, counts.indices, counts.values, t),
        table.requires_grad_(),
    )


@pytest.mark.parametrize(
    ("share", "ways"), [(0.0, ["sparse"]), (DENSE_FROM / 2, ["sparse"]), (2 * DENSE_FROM, []), (1.0, [])]
)
def test_a_batch_takes_the_faster_way_and_both_give_the_same(share, ways, monkeypatch):
    """Only the stored entries on a CPU where most counts are zeros; otherwise all."""
    taken = []

    def watched(*given):
        taken.append("sparse")
        return sparse_product(*given)

    monkeypatch.setattr(counts_module, "sparse_product", watched)
    x = counts_with(share)
    counts = CountBatch.from_dense(x)
    table = torch.randn(GENES, WIDTH, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(counts.times(counts.values, table), x @ table)
    assert taken == ways
