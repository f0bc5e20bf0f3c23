"""The Poisson decoder and its distribution."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from latdiff_core.testing import DecoderContract
from latdiff_counts import NegativeBinomial, Poisson, PoissonDecoderConfig


class TestPoissonDecoder(DecoderContract):
    config = PoissonDecoderConfig(hidden=(16,))
    largest_count = 200


def test_the_variance_is_the_mean():
    distribution = Poisson(torch.linspace(-5, 5, 11).unsqueeze(0))
    assert torch.equal(distribution.variance, distribution.mean)


def test_it_is_the_limit_of_the_negative_binomial():
    """At theta = e^24 nothing is left of the overdispersion."""
    log_mu, x = torch.linspace(-5, 5, 11).unsqueeze(-1), torch.arange(0, 200.0, 10)
    limit = NegativeBinomial(log_mu, torch.tensor(24.0)).log_prob(x)
    torch.testing.assert_close(Poisson(log_mu).log_prob(x), limit, rtol=1e-6, atol=1e-4)


def test_draws_follow_scipys_poisson():
    """Pearson's chi-square over the counts that are expected at least five times."""
    n = 50_000
    draws = Poisson(torch.full((n, 1), 1.5)).sample(generator=torch.Generator().manual_seed(0)).long().flatten()
    below = stats.poisson.pmf(np.arange(8), np.exp(1.5))
    expected = n * np.array([*below, 1 - below.sum()])
    assert stats.chisquare(torch.bincount(draws.clamp(max=8), minlength=9).numpy(), expected).pvalue > 1e-3
