"""Raw counts at the door: what is refused, what is taken, and the statistics drawn from them."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from latdiff_core.data import aligned_counts, counts_per_10k, gene_statistics, raw_counts
from latdiff_core.errors import DataError

COUNTS = np.array([[1, 0, 3, 0], [0, 2, 0, 5], [4, 0, 0, 1]])


def adata(values: np.ndarray, form=np.asarray) -> anndata.AnnData:
    data = anndata.AnnData(form(values))
    data.obs_names = [f"c{i}" for i in range(len(values))]
    data.var_names = [f"g{j}" for j in range(values.shape[1])]
    return data


def with_value(value: float) -> np.ndarray:
    values = COUNTS.astype(np.float64)
    values[1, 3] = value
    return values


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "holds 1.5 at cell 'c1', gene 'g3' .*raw integer counts are needed"),
        (-2.0, "holds -2.0 at cell 'c1', gene 'g3' .*cannot be negative"),
        (np.nan, "holds nan at cell 'c1', gene 'g3' .*must be finite"),
        (np.inf, "holds inf at cell 'c1', gene 'g3' .*must be finite"),
        (2.0**24 + 2, "at cell 'c1', gene 'g3' .*up to 16,777,216"),
    ],
)
def test_a_value_that_is_no_count_is_refused_by_cell_and_gene(value, message, form):
    with pytest.raises(DataError, match=message):
        raw_counts(adata(with_value(value), form))


def test_negative_integers_are_refused_too():
    with pytest.raises(DataError, match="cannot be negative"):
        raw_counts(adata(-COUNTS))


def test_normalised_data_with_counts_in_a_layer_points_to_the_layer():
    data = adata(np.log1p(COUNTS))
    data.layers["counts"] = COUNTS
    with pytest.raises(DataError, match=r"name the layer of raw counts .*counts.* can be rounded"):
        raw_counts(data)
    np.testing.assert_array_equal(raw_counts(data, "counts").toarray(), COUNTS)
    with pytest.raises(DataError, match="there is no layer 'count'; did you mean 'counts'"):
        raw_counts(data, "count")


def test_an_empty_cell_is_refused_by_name():
    values = COUNTS.copy()
    values[2] = 0
    stored_zeros = sparse.csr_matrix((np.zeros(1), ([2], [0])), shape=COUNTS.shape) + sparse.csr_matrix(values)
    for data in (adata(values), adata(stored_zeros.toarray(), sparse.csr_matrix)):
        with pytest.raises(DataError, match=r"1 cells have no counts in X, e\.g\. c2; remove"):
            raw_counts(data)


def test_a_gene_named_twice_is_refused_by_name():
    data = adata(COUNTS)
    data.var_names = ["g0", "g1", "g1", "g3"]
    with pytest.raises(DataError, match=r"1 gene names occur more than once, e\.g\. g1;"):
        raw_counts(data)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_data_without_cells_or_genes_is_refused(shape):
    with pytest.raises(DataError, match="at least one of each"):
        raw_counts(anndata.AnnData(np.zeros(shape, dtype=np.float32)))


def test_counts_in_raw_are_pointed_to():
    """Often of all genes, where X has the variable ones: they cannot be copied into a layer."""
    data = adata(COUNTS)
    data.raw = data
    data.X = np.log1p(COUNTS)
    with pytest.raises(DataError, match=r"if adata.raw has them, fit adata\.raw\.to_adata\(\)"):
        raw_counts(data)
    np.testing.assert_array_equal(raw_counts(data.raw.to_adata()).toarray(), COUNTS)


def test_data_without_x_asks_for_a_layer():
    data = anndata.AnnData(layers={"counts": COUNTS})
    with pytest.raises(DataError, match=r"X is empty; name the layer of raw counts \(known: counts\)"):
        raw_counts(data)


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_counts_of_every_form_are_taken_and_left_unchanged(form, dtype):
    data = adata(COUNTS.astype(dtype), form)
    counts = raw_counts(data)
    assert sparse.isspmatrix_csr(counts)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), COUNTS)
    counts.data[:] = 0
    np.testing.assert_array_equal(data.X.toarray() if sparse.issparse(data.X) else data.X, COUNTS)


def test_entries_stored_twice_are_one_count_and_stored_zeros_none():
    twice = sparse.csr_matrix((np.array([1.5, 0.5, 0.0, 3.0]), np.array([0, 0, 1, 2]), np.array([0, 3, 4])), (2, 3))
    counts = raw_counts(anndata.AnnData(twice))
    np.testing.assert_array_equal(counts.toarray(), [[2, 0, 0], [0, 0, 3]])
    assert counts.nnz == 2


def test_genes_are_matched_by_name_whatever_their_order():
    data = adata(COUNTS)
    shuffled = data[:, ["g2", "g0", "g3", "g1"]].copy()
    np.testing.assert_array_equal(aligned_counts(shuffled, list(data.var_names)).toarray(), COUNTS)


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (["g0", "g1", "g2", "g3", "g9"], r"model's 5: 1 are missing, e\.g\. g9$"),
        (["g0", "g1", "g2"], r"model's 3: 1 are not among them, e\.g\. g3; select the known ones"),
        (["g0", "g1", "g2", "g9"], r"1 are missing, e\.g\. g9; 1 are not among them, e\.g\. g3$"),
    ],
)
def test_genes_that_differ_are_named(genes, message):
    with pytest.raises(DataError, match=message):
        aligned_counts(adata(COUNTS), genes)


def test_counts_per_10k_equal_scanpy():
    reference = adata(COUNTS.astype(np.float32))
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    np.testing.assert_allclose(counts_per_10k(sparse.csr_matrix(COUNTS)).toarray(), reference.X, rtol=1e-6)


def test_gene_statistics_equal_the_dense_moments():
    rng = np.random.default_rng(0)
    x = rng.negative_binomial(2, 0.3, size=(300, 8)) * rng.binomial(1, 0.6, size=(300, 8))
    x[0] += 1
    fraction = (x.sum(0) + 0.5) / (x.sum(0) + 0.5).sum()
    mu = x.sum(1, keepdims=True) * fraction
    theta = (mu**2).sum(0) / ((x - mu) ** 2 - mu).sum(0)
    statistics = gene_statistics(sparse.csr_matrix(x, dtype=np.float32))
    np.testing.assert_allclose(statistics.fraction, fraction, rtol=1e-5)
    np.testing.assert_allclose(statistics.theta, theta, rtol=1e-4)
    assert ((theta > 0.01) & (theta < 100)).all()


def test_gene_statistics_find_the_dispersion_that_made_the_data():
    """Mistake B17: a dispersion that starts far from the data's takes longer to learn than training lasts."""
    rng = np.random.default_rng(0)
    true, mu = np.array([0.3, 1.0, 4.0, 0.6]), np.array([20.0, 10.0, 40.0, 5.0])
    filler = np.full((20_000, 1), 5_000)  # keeps the library size independent of the genes looked at
    x = np.hstack([rng.negative_binomial(true, true / (true + mu), size=(20_000, 4)), filler])
    theta = gene_statistics(sparse.csr_matrix(x, dtype=np.float32)).theta
    np.testing.assert_allclose(theta[:4], true, rtol=0.1)


def test_genes_without_counts_or_overdispersion_get_usable_statistics():
    counts = sparse.csr_matrix(np.array([[5, 5, 0], [5, 5, 0]], dtype=np.float32))
    statistics = gene_statistics(counts)
    assert (statistics.fraction > 0).all()
    assert statistics.fraction.sum().item() == pytest.approx(1.0)
    assert ((statistics.theta > 0) & statistics.theta.isfinite()).all()


def test_fit_refuses_bad_counts_before_it_trains(make_model, tiny_data):
    bad = tiny_data.copy()
    bad.X.data[0] = 0.5
    with pytest.raises(DataError, match=r"holds 0\.5 at cell"):
        make_model().fit(bad, progress=False)


def test_principal_components_equal_those_of_the_dense_matrix():
    rng = np.random.default_rng(0)
    x = rng.poisson(np.exp(rng.normal(size=(60, 2)) @ rng.normal(size=(2, 15))))
    found = gene_statistics(sparse.csr_matrix(x, dtype=np.float32)).components
    values = np.log1p(1e4 * x / np.maximum(x.sum(1, keepdims=True), 1))
    eigenvalues = np.linalg.eigvalsh(np.cov(values.T))[::-1]
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.std, np.sqrt(eigenvalues[:14]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.loadings.T @ found.loadings, np.eye(14), atol=1e-4)
    along = (values - values.mean(0)) @ found.loadings.numpy()
    np.testing.assert_allclose(along.std(0, ddof=1), found.std, rtol=1e-3, atol=1e-3)


def test_there_are_no_components_where_cells_do_not_differ():
    assert gene_statistics(sparse.csr_matrix(np.ones((5, 4), dtype=np.float32))).components is None
    assert gene_statistics(sparse.csr_matrix([[3.0, 1.0]], dtype=np.float32)).components is None


def test_theta_by_moments_is_what_poisson_does_not_explain():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2.0, 1 / 2.0, (4000, 30)))  # mean 1, theta 2
    theta = gene_statistics(sparse.csr_matrix(counts.astype(np.float32))).theta
    assert theta.median().item() == pytest.approx(2.0, rel=0.2)
