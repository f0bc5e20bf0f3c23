"""The MLP encoder on principal components: the contract, and what its inputs are."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from latdiff_core.counts import CountBatch
from latdiff_core.data import counts_per_10k, gene_statistics
from latdiff_core.interfaces import Covariates, Sizes
from latdiff_core.testing import EncoderContract
from latdiff_counts import PCAMLPEncoderConfig


class TestPCAMLP(EncoderContract):
    config = PCAMLPEncoderConfig(components=12, hidden=(32, 16))


class TestMoreComponentsThanGenes(EncoderContract):
    config = PCAMLPEncoderConfig(components=50, hidden=(16,))


def _counts(cells: int, genes: int) -> sparse.csr_matrix:
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(cells, 2)) @ rng.normal(size=(2, genes)))
    return sparse.csr_matrix(rng.poisson(rates).astype(np.float32))


def test_its_inputs_are_scikit_learns_components_up_to_scale():
    counts = _counts(80, 30)
    sizes = Sizes(genes=30, latent_dim=4)
    encoder = PCAMLPEncoderConfig(components=5).build(sizes=sizes, statistics=gene_statistics(counts))
    seen = []
    encoder.layers.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(CountBatch.from_csr(counts), Covariates.average(80, sizes))
    values = counts_per_10k(counts).toarray()
    pca = PCA(5, svd_solver="full").fit(values)
    std = np.sqrt(pca.explained_variance_)
    expected = pca.transform(values) / np.sqrt(std * std[-1])
    signs = np.sign((expected * seen[0].numpy()).sum(0))
    np.testing.assert_allclose(seen[0].numpy() * signs, expected, rtol=1e-3, atol=1e-3)


def test_the_components_are_saved_and_not_trained():
    encoder = PCAMLPEncoderConfig(components=5).build(
        sizes=Sizes(genes=30, latent_dim=4), statistics=gene_statistics(_counts(80, 30))
    )
    assert "loadings" in encoder.state_dict()
    assert {name for name, _ in encoder.named_parameters()}.isdisjoint({"loadings", "offset"})
    assert all(torch.isfinite(value).all() for value in encoder.state_dict().values())


def test_few_cells_leave_the_other_inputs_zero():
    encoder = PCAMLPEncoderConfig(components=50).build(
        sizes=Sizes(genes=30, latent_dim=4), statistics=gene_statistics(_counts(6, 30))
    )
    assert (encoder.loadings.abs().sum(0) > 0).tolist() == [True] * 5 + [False] * 45
