"""The normal decoder of normalised values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from latdiff_core.counts import CountBatch
from latdiff_core.errors import LatdiffError
from latdiff_core.interfaces import Covariates, Sizes
from latdiff_core.testing import AnyDecoderContract
from latdiff_counts import Gaussian, GaussianDecoder, GaussianDecoderConfig


class TestGaussianDecoder(AnyDecoderContract):
    config = GaussianDecoderConfig(hidden=(16,))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_log_densities_are_scipys_at_the_normalised_values(dtype, bound):
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(40, 9, generator=generator, dtype=torch.float64).to(dtype)
    scale = torch.logspace(-1, 1, 9, dtype=torch.float64).to(dtype)
    library = torch.logspace(0, 5, 40, dtype=torch.float64).round()
    x = torch.poisson(torch.full((40, 9), 2.0), generator=generator)
    ours = Gaussian(loc, scale, library).log_prob(x)
    values = np.log1p(1e4 * x.double().numpy() / library.numpy()[:, None])
    theirs = stats.norm.logpdf(values, loc.double(), scale.double())
    error = np.abs((ours.double().numpy() - theirs) / np.maximum(1, np.abs(theirs))).max()
    print(f"gaussian vs scipy, relative, {dtype}: {error:.3g}")
    assert error < bound


def test_the_normalised_values_are_those_that_an_encoder_sees():
    """log1p of counts per 10,000 of the library that the decoder is given."""
    counts = CountBatch.from_dense(torch.tensor([[3.0, 0.0, 7.0], [100.0, 1.0, 0.0]]))
    exact = Gaussian(counts.log1p_normalised(), torch.ones(3), counts.library)
    torch.testing.assert_close(exact.log_prob(counts.dense()), torch.full((2, 3), -0.5 * math.log(2 * math.pi)))


def test_it_says_that_it_generates_no_counts():
    assert GaussianDecoder.generates == "log_normalised"
    for described in (Gaussian, GaussianDecoder, GaussianDecoderConfig):
        assert "generates no counts" in described.__doc__


def test_samples_are_normal_values_also_negative_ones():
    """Dense in float32 in the sparse form too."""
    distribution = Gaussian(torch.full((2000, 5), 0.5), torch.full((5,), 2.0), torch.ones(2000))
    draw = distribution.sample_csr(torch.Generator().manual_seed(0))
    assert draw.dtype == "float32"
    assert draw.nnz == 10_000
    assert stats.kstest(draw.data, stats.norm(0.5, 2.0).cdf).pvalue > 1e-3
    assert draw.min() < 0


def test_values_that_are_not_finite_are_not_handed_out():
    distribution = Gaussian(torch.full((2, 3), torch.nan), torch.ones(3), torch.ones(2))
    with pytest.raises(LatdiffError, match="not finite"):
        distribution.sample_csr()


def test_training_starts_at_the_mean_profile_of_the_data_with_a_standard_deviation_of_one(make_statistics):
    statistics, sizes = make_statistics(2000), Sizes(genes=2000, latent_dim=4)
    torch.manual_seed(0)
    decoder = GaussianDecoderConfig().build(sizes=sizes, statistics=statistics).eval()
    distribution = decoder(torch.randn(64, 4), torch.full((64,), 100.0), Covariates.average(64, sizes))
    error = (distribution.mean - (1e4 * statistics.fraction).log1p()).abs()
    assert error.mean() < 0.5
    torch.testing.assert_close(distribution.variance, torch.ones(64, 2000))


def test_the_density_of_a_gene_without_counts_cannot_explode():
    """However long it trains on zeros, the standard deviation stays above a tenth, and has a finite gradient."""
    sizes = Sizes(genes=3, latent_dim=2)
    decoder = GaussianDecoderConfig(hidden=(8,), dropout=0.0).build(sizes=sizes, statistics=None)
    empty = CountBatch.from_dense(torch.zeros(4, 3))
    for offset in (-1.0, -1e3):
        with torch.no_grad():
            decoder.deviation.offset.fill_(offset)
            decoder.loc.weight.zero_()
            decoder.loc.bias.zero_()
        likelihood = decoder(torch.zeros(4, 2), torch.ones(4), Covariates.average(4, sizes)).log_likelihood(empty)
        likelihood.sum().backward()
        assert likelihood.max() < 3 * (math.log(10) - 0.5 * math.log(2 * math.pi)) + 1e-3
        assert decoder.deviation.offset.grad.isfinite().all()
