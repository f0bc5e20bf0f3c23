"""The negative binomial decoder and its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from latdiff_core.testing import DecoderContract
from latdiff_counts import NegativeBinomial, NegativeBinomialDecoderConfig


class TestNegativeBinomialDecoder(DecoderContract):
    config = NegativeBinomialDecoderConfig(hidden=(16,))


class TestNegativeBinomialDecoderPerCondition(DecoderContract):
    config = NegativeBinomialDecoderConfig(hidden=(16,), dispersion="condition")


class TestNegativeBinomialDecoderPerCell(DecoderContract):
    config = NegativeBinomialDecoderConfig(hidden=(16,), dispersion="cell")


@pytest.fixture
def parameters():
    """mu (40, 9) and theta (9,) in float64, from tiny to large."""
    mu = torch.exp(2 * torch.randn(40, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    return mu, torch.logspace(-2, 6, 9, dtype=torch.float64)


def test_moments_are_scipys(parameters):
    mu, theta = parameters
    ours = NegativeBinomial(mu.log(), theta.log())
    mean, variance = stats.nbinom.stats(theta, theta / (theta + mu), moments="mv")
    torch.testing.assert_close(ours.mean, torch.from_numpy(mean))
    torch.testing.assert_close(ours.variance, torch.from_numpy(variance), rtol=1e-6, atol=0)


def test_autocast_does_not_reach_the_likelihood():
    """In bfloat16 a log-probability of hundreds of nats is wrong by nats."""
    log_mu, log_theta = torch.full((4, 50), 3.0), torch.zeros(50)
    x = torch.arange(200.0).view(4, 50)
    exact = NegativeBinomial(log_mu.double(), log_theta.double()).log_prob(x).sum(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = NegativeBinomial(log_mu, log_theta).log_prob(x).sum(-1)
    torch.testing.assert_close(under.double(), exact, rtol=1e-6, atol=1e-4)


def test_samples_have_the_zeros_of_the_distribution_and_not_only_its_mean():
    """Rounded expectations have no zeros where the counts have more than half."""
    distribution = NegativeBinomial(torch.full((20_000, 1), 0.0), torch.tensor([-1.0]))
    drawn = (distribution.sample(generator=torch.Generator().manual_seed(0)) == 0).float().mean().item()
    assert drawn == pytest.approx(stats.nbinom.pmf(0, 0.3679, 0.3679 / 1.3679), abs=0.015)
