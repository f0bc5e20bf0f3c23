"""The generalized Poisson decoder and its distribution."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from latdiff_core.interfaces import Covariates, Sizes
from latdiff_core.registry import Registry
from latdiff_core.testing import DecoderContract
from latdiff_example import GeneralizedPoisson, GeneralizedPoissonDecoderConfig, plugin

COUNTS = (0, 1, 2, 5, 10, 100, 1000, 10_000, 1_000_000)
LAMBDAS = (1e-6, 1e-3, 0.1, 0.5, 0.9)


class TestGeneralizedPoissonDecoder(DecoderContract):
    config = GeneralizedPoissonDecoderConfig(hidden=(16,))


def test_latdiff_finds_it():
    registry = Registry()
    registry.register(plugin, "latdiff-example")
    assert registry.kinds("decoder") == ["generalized_poisson"]


@pytest.fixture(scope="module")
def grid() -> tuple[Tensor, Tensor, Tensor]:
    """Count, log mean and log lambda in float32, broadcastable: the whole range that the decoder can reach."""
    x, log_mu = torch.tensor(COUNTS, dtype=torch.float32).view(-1, 1, 1), torch.arange(-30, 12.1, 1.5).view(-1, 1)
    return x, log_mu, torch.tensor(LAMBDAS).log()


def _exact(x: float, log_mu: float, log_lambda: float) -> float:
    """Consul & Jain's formula, with 50 digits."""
    with mpmath.workdps(50):
        lam = mpmath.exp(log_lambda)
        theta = mpmath.exp(log_mu) * (1 - lam)
        m = theta + lam * x
        return float(mpmath.log(theta) + (x - 1) * mpmath.log(m) - m - mpmath.loggamma(x + 1))


def _log_prob(x: Tensor, log_mu: Tensor, log_lambda: Tensor) -> Tensor:
    x, log_mu, log_lambda = torch.broadcast_tensors(x, log_mu, log_lambda)
    return GeneralizedPoisson(log_mu, log_lambda).log_prob(x)


def _scale(log_prob: Tensor, x: Tensor, log_mu: Tensor) -> Tensor:
    """What an error is relative to: the largest of 1, |log-probability|, count and mean."""
    return torch.maximum(log_prob.abs(), torch.maximum(x.double(), log_mu.double().exp())).clamp(min=1)


def test_log_probabilities_are_exact_over_the_whole_range(grid):
    """In float32 relative to the size of count and mean, up to a million counts, and in float64 to twelve digits."""
    x, log_mu, log_lambda = grid
    points = torch.stack(torch.broadcast_tensors(*grid), dim=-1)
    exact = torch.tensor([_exact(*point) for point in points.view(-1, 3).tolist()], dtype=torch.float64)
    exact = exact.view(points.shape[:-1])
    scale = _scale(exact, x, log_mu)
    assert ((_log_prob(x, log_mu, log_lambda) - exact).abs() / scale).max() < 1e-6
    assert ((_log_prob(x.double(), log_mu.double(), log_lambda.double()) - exact).abs() / scale).max() < 1e-12


def test_gradients_are_finite_and_exact_over_the_whole_range(grid):
    x, log_mu, log_lambda = torch.broadcast_tensors(*grid)
    log_mu, log_lambda = (p.clone().requires_grad_() for p in (log_mu, log_lambda))
    _log_prob(x, log_mu, log_lambda).sum().backward()
    with torch.no_grad():
        count, mu, lam = x.double(), log_mu.double().exp(), log_lambda.double().exp()
        theta = mu * (1 - lam)
        by_theta = 1 / theta + (count - 1) / (theta + lam * count) - 1
        by_lambda = count * (count - 1) / (theta + lam * count) - count - mu * by_theta
        scale = torch.maximum(count, mu).clamp(min=1)
        for given, exact in ((log_mu.grad, theta * by_theta), (log_lambda.grad, lam * by_lambda)):
            assert given.isfinite().all()
            assert ((given - exact).abs() / torch.maximum(scale, exact.abs())).max() < 5e-6


def test_the_log_probability_of_zero_is_minus_theta_to_the_last_digit():
    log_mu, log_lambda = torch.linspace(-30, 10, 41).unsqueeze(-1), torch.tensor(LAMBDAS).log()
    expected = -log_mu.exp() * (1 - log_lambda.exp())
    assert torch.equal(_log_prob(torch.zeros(()), log_mu, log_lambda), expected)


def test_without_children_it_is_scipys_poisson():
    x, mu = torch.arange(100, dtype=torch.float64), 20.0
    ours = _log_prob(x, torch.tensor(mu, dtype=torch.float64).log(), torch.tensor(1e-12, dtype=torch.float64).log())
    torch.testing.assert_close(ours, torch.from_numpy(stats.poisson.logpmf(x, mu)), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("mu", "lam"), [(0.05, 0.1), (3.0, 0.5), (40.0, 0.85)])
def test_the_moments_are_those_of_the_probabilities(mu, lam):
    x = torch.arange(20_000, dtype=torch.float64).unsqueeze(-1)
    distribution = GeneralizedPoisson(torch.full((1, 1), mu).double().log(), torch.full((1,), lam).double().log())
    p = distribution.log_prob(x).exp()
    mean = (p * x).sum()
    assert mean.item() == pytest.approx(mu, rel=1e-6)
    assert distribution.mean.item() == pytest.approx(mu, rel=1e-6)
    assert distribution.variance.item() == pytest.approx((p * (x - mean) ** 2).sum().item(), rel=1e-6)


@pytest.mark.parametrize(("mu", "lam"), [(0.05, 0.5), (2.0, 0.01), (4.0, 0.3), (1.0, 0.8), (300.0, 0.6)])
def test_families_that_die_out_have_its_probabilities(mu, lam):
    """The branching process knows nothing of the formula: Pearson's chi-square over bins between quantiles."""
    n = 50_000
    distribution = GeneralizedPoisson(torch.full((n, 1), mu).log(), torch.tensor([lam]).log())
    draws = distribution.sample(generator=torch.Generator().manual_seed(0)).numpy().ravel()
    x = torch.arange(5000, dtype=torch.float64)
    cdf = _log_prob(x, torch.tensor(mu).double().log(), torch.tensor(lam).double().log()).exp().cumsum(0).numpy()
    edges = np.unique(np.searchsorted(cdf, np.linspace(0.02, 0.98, 25)))
    expected = n * np.diff([0.0, *cdf[edges], 1.0])
    observed = np.bincount(np.searchsorted(edges, draws), minlength=len(expected))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_lambda_stays_below_nine_tenths_however_far_it_is_pushed():
    sizes = Sizes(genes=3, latent_dim=2)
    decoder = GeneralizedPoissonDecoderConfig(hidden=(8,)).build(sizes=sizes, statistics=None)
    for pushed in (-1e3, 0.0, 1e3):
        with torch.no_grad():
            decoder.offset.fill_(pushed)
        distribution = decoder(torch.zeros(1, 2), torch.tensor([50.0]), Covariates.average(1, sizes))
        (-distribution.log_prob(torch.tensor([[0.0, 3.0, 40.0]])).sum()).backward()
        assert distribution.log_lambda.exp().max() <= 0.9 + 1e-6
        assert decoder.offset.grad.isfinite().all()


def test_training_starts_near_poisson_at_lambda_one_tenth():
    sizes = Sizes(genes=3, latent_dim=2)
    decoder = GeneralizedPoissonDecoderConfig(hidden=(8,)).build(sizes=sizes, statistics=None)
    distribution = decoder(torch.zeros(1, 2), torch.tensor([50.0]), Covariates.average(1, sizes))
    torch.testing.assert_close(distribution.variance / distribution.mean, torch.full((1, 3), 1 / 0.9**2))
