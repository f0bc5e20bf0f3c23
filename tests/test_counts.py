"""Sparse minibatches of counts."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scanpy as sc
import torch
from scipy import sparse

from latdiff_core import CountBatch
from latdiff_core.errors import ShapeError

DENSE = torch.tensor([[0, 3, 0, 1], [0, 0, 0, 0], [7, 0, 2, 0]])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float64, torch.bfloat16])
def test_dense_counts_of_any_dtype_survive_the_round_trip(dtype):
    batch = CountBatch.from_dense(DENSE.to(dtype))
    assert (len(batch), batch.genes, len(batch.values)) == (3, 4, 4)
    assert batch.values.dtype == torch.float32
    assert torch.equal(batch.dense(), DENSE.float())


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_a_scipy_matrix_and_a_dense_tensor_make_the_same_batch(dtype):
    ours, theirs = CountBatch.from_csr(sparse.csr_matrix(DENSE.numpy().astype(dtype))), CountBatch.from_dense(DENSE)
    for field in ("indptr", "indices", "values", "library"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field))


def test_library_is_one_total_per_cell_even_for_empty_cells():
    assert torch.equal(CountBatch.from_dense(DENSE).library, torch.tensor([4.0, 0.0, 9.0]))


def test_any_number_per_entry_is_summed_and_spread_where_its_count_is():
    batch = CountBatch.from_dense(DENSE)
    squares = batch.values.double() ** 2
    assert torch.equal(batch.dense(squares), DENSE.double() ** 2)
    assert torch.equal(batch.sum_per_cell(squares), (DENSE.double() ** 2).sum(1))


def test_whole_numbers_are_summed_too_and_a_wrong_number_of_entries_is_refused():
    batch = CountBatch.from_dense(DENSE)
    assert torch.equal(batch.sum_per_cell(batch.values.long()), DENSE.sum(1))
    for entries in (batch.values[:3], torch.ones(9), torch.ones(4, 2)):
        with pytest.raises(ShapeError, match="entries has shape"):
            batch.sum_per_cell(entries)


def test_normalisation_equals_scanpy():
    counts = np.random.default_rng(0).poisson(2.0, size=(6, 9)).astype(np.float32)
    reference = anndata.AnnData(counts.copy())
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    ours = CountBatch.from_dense(torch.as_tensor(counts)).log1p_normalised()
    np.testing.assert_allclose(ours.numpy(), reference.X, rtol=1e-5)


def test_normalising_an_empty_cell_gives_zeros_instead_of_nan():
    assert torch.equal(CountBatch.from_dense(DENSE).log1p_normalised()[1], torch.zeros(4))
