"""Draws against the distributions they are of, from the rarest genes to the most abundant ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial
from latdiff_counts.sampling import UNIFORM_STEP, accepted, candidates, positive_nb, positive_poisson, sample_nb
from latdiff_counts.sparse_distribution import SparseCountDistribution

CELLS = 40_000
MU = (1e-3, 0.05, 0.7, 4.0, 60.0)
THETA = (0.01, 0.3, 2.0, 20.0, 1e6)


def _p_value(draws: np.ndarray, log_prob: Tensor) -> float:
    """Pearson's chi-square of counts against log-probabilities of 0, 1, ...; rare counts are put together."""
    expected = log_prob.double().exp().numpy() * len(draws)
    observed = np.bincount(draws.astype(int).clip(max=len(expected)), minlength=len(expected) + 1)
    expected = np.append(expected, max(len(draws) - expected.sum(), 0))
    bins = np.minimum(np.cumsum(expected) // 20, (expected.sum() - 20) // 20).astype(int)
    sums = [np.bincount(bins, weights) for weights in (observed, expected)]
    kept = sums[1] > 0
    if kept.sum() < 2:
        return 1.0
    return float(stats.chisquare(sums[0][kept], sums[1][kept] * sums[0].sum() / sums[1].sum()).pvalue)


@pytest.mark.parametrize(
    "make",
    [
        lambda mu, theta: Poisson(mu),
        NegativeBinomial,
        lambda mu, theta: ZeroInflatedNegativeBinomial(mu, theta, torch.tensor(0.5).expand(len(theta))),
        lambda mu, theta: NegativeBinomialMixture(mu, theta, 3.0 - theta, torch.tensor(-1.0).expand(len(theta))),
    ],
    ids=["Poisson", "NB", "ZINB", "mixture"],
)
@pytest.mark.parametrize("how", ["sparse", "dense"])
def test_draws_follow_the_distribution_over_a_grid_of_means_and_dispersions(make, how):
    """Chi-square of every count up to 5,000 and of all larger ones, tails included; the smallest of 25 p-values."""
    log_mu, log_theta = torch.cartesian_prod(torch.tensor(MU), torch.tensor(THETA)).log().unbind(-1)
    distribution: SparseCountDistribution = make(log_mu.expand(CELLS, -1), log_theta)
    generator = torch.Generator().manual_seed(3)
    draws = (
        distribution.sample_csr(generator).toarray() if how == "sparse" else distribution.sample(generator=generator)
    )
    counts = torch.arange(5000.0).unsqueeze(-1).expand(-1, len(log_mu)).double()
    exact = make(log_mu.double().expand(5000, -1), log_theta.double()).log_prob(counts)
    p_values = [_p_value(np.asarray(draws[:, gene]), exact[:, gene]) for gene in range(len(log_mu))]
    assert min(p_values) > 1e-4


@pytest.mark.parametrize(
    ("mu", "theta"), [(2.0, 0.01), (4.0, 0.3), (0.7, 2.0), (120.0, 20.0), (4.0, 1e5), (4.0, 2.0**34)]
)
def test_draws_follow_scipys_negative_binomial(mu, theta):
    """Over bins between quantiles: given that they are not zero, and as they come."""
    n, exact = 50_000, stats.nbinom(theta, theta / (theta + mu))
    generator = torch.Generator().manual_seed(0)
    edges = np.unique(exact.ppf(np.linspace(0.02, 0.98, 25)))
    for draws, lowest in (
        (sample_nb(torch.full((n,), mu), torch.tensor(theta), generator), -1),
        (positive_nb(torch.tensor(mu).log().expand(n), torch.tensor(theta).log().expand(n), generator), 0),
    ):
        inner = edges[edges > lowest]
        expected = np.diff([exact.cdf(lowest), *exact.cdf(inner), 1.0])
        observed = np.bincount(np.searchsorted(inner, draws.numpy()), minlength=len(expected))
        assert stats.chisquare(observed, n * expected / expected.sum()).pvalue > 1e-3
        assert draws.min() > lowest


@pytest.mark.parametrize("mu", [1e-6, 0.3, 2.9, 3.1, 50.0])
def test_positive_poisson_has_the_moments_of_the_truncated_distribution(mu):
    draws = positive_poisson(torch.full((100_000,), mu), torch.Generator().manual_seed(0))
    mean = mu / -np.expm1(-mu)
    assert draws.min() >= 1
    assert draws.mean().item() == pytest.approx(mean, abs=5 * np.sqrt(mean) / 300 + 1e-4)


def test_the_share_of_zeros_is_exact_between_the_steps_of_uniform_numbers():
    """A probability of 1.5 steps is met by one step always and by the next one half of the time."""
    uniform = (UNIFORM_STEP * torch.arange(4.0)).repeat(25_000)
    found = accepted(torch.full_like(uniform, 1.5 * UNIFORM_STEP), uniform, torch.Generator().manual_seed(0))
    per_step = torch.bincount(found % 4, minlength=4) / 25_000
    assert per_step[0] == 1
    assert per_step[1].item() == pytest.approx(0.5, abs=0.02)
    assert per_step[2:].sum() == 0


def test_candidates_are_uniform_on_all_steps():
    generator, n = torch.Generator().manual_seed(0), 10_001  # no multiple of the numbers that share a word
    positions, uniform = candidates(torch.full((101, n), 1.0), generator)
    assert torch.equal(positions, torch.arange(101 * n))
    assert uniform.min() >= 0
    assert uniform.max() < 1
    steps = torch.bincount((uniform / UNIFORM_STEP).long(), minlength=2**16)
    assert stats.chisquare(steps.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("rate", [3e-7, 1e-5, 3e-4])
def test_rarer_genes_than_a_step_are_counted_as_often_as_they_should(rate):
    generator, n = torch.Generator().manual_seed(0), 20_000_000
    _, uniform = candidates(torch.full((1, n), 2 * rate), generator)
    found = len(accepted(torch.full_like(uniform, rate), uniform, generator))
    assert found == pytest.approx(n * rate, abs=5 * np.sqrt(n * rate))
