"""The negative binomial decoder and its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from latdiff_core.testing import DecoderContract
from latdiff_counts import NegativeBinomial, NegativeBinomialDecoderConfig


class TestNegativeBinomialDecoder(DecoderContract):
    config = NegativeBinomialDecoderConfig(hidden=(16,))


@pytest.fixture
def parameters():
    """mu (40, 9) and theta (9,) in float64, from tiny to large, with counts (40, 9) drawn around them."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.exp(2 * torch.randn(40, 9, generator=generator, dtype=torch.float64))
    theta = torch.logspace(-2, 6, 9, dtype=torch.float64)
    return mu, theta, torch.poisson(2 * mu, generator=generator)


def test_log_probabilities_are_scipys(parameters):
    mu, theta, x = parameters
    ours = NegativeBinomial(mu.log(), theta.log()).log_prob(x)
    scipys = torch.from_numpy(stats.nbinom.logpmf(x, theta, theta / (theta + mu)))
    torch.testing.assert_close(ours, scipys, rtol=1e-7, atol=1e-7)


def test_log_probabilities_are_scvi_tools(parameters, scvi_distributions):
    """mu and theta mean what they mean there; scvi-tools adds 1e-8 inside its logs."""
    mu, theta, x = parameters
    ours = NegativeBinomial(mu.log(), theta.log()).log_prob(x)
    scvis = scvi_distributions.NegativeBinomial(mu=mu, theta=theta).log_prob(x)
    torch.testing.assert_close(ours, scvis, rtol=1e-5, atol=1e-5)


def test_moments_are_scipys(parameters):
    mu, theta, _ = parameters
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
