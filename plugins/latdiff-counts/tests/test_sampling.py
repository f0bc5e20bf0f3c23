"""Draws against the distributions they are of, from the rarest genes to the most abundant ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial
from latdiff_counts.sampling import UNIFORM_STEP, candidates, nb_from_uniform, poisson_from_uniform, sample_nb
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
    """Over bins between quantiles: dense draws, and those by uniform numbers."""
    n, exact = 50_000, stats.nbinom(theta, theta / (theta + mu))
    generator = torch.Generator().manual_seed(0)
    edges = np.unique(exact.ppf(np.linspace(0.02, 0.98, 25)))
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    for draws in (
        sample_nb(torch.full((n,), mu), torch.tensor(theta), generator),
        nb_from_uniform(uniform, torch.tensor(mu).log().expand(n), torch.tensor(theta).log().expand(n), generator),
    ):
        expected = np.diff([0.0, *exact.cdf(edges), 1.0])
        observed = np.bincount(np.searchsorted(edges, draws.numpy()), minlength=len(expected))
        assert stats.chisquare(observed, n * expected / expected.sum()).pvalue > 1e-3


UNIFORM = torch.cat([torch.logspace(-12, -2, 200, dtype=torch.float64), torch.linspace(0.01, 1, 500)[:-1].double()])


@pytest.mark.parametrize(
    ("mu", "theta"), [(1e-6, 2.0), (0.3, 0.1), (0.7, 2.0), (2.5, 20.0), (5.0, 2.0), (0.3, 2.0**34)]
)
def test_few_counts_are_those_of_scipys_inverse(mu, theta):
    """More than k where the uniform number is below P(X > k), to counts of one cell in 10^12."""
    log_mu, log_theta = (torch.full_like(UNIFORM, x).log() for x in (mu, theta))
    exact = stats.nbinom(theta, theta / (theta + mu))
    _assert_inverse(nb_from_uniform(UNIFORM, log_mu, log_theta), exact)


@pytest.mark.parametrize("mu", [1e-6, 0.3, 2.9])
def test_few_counts_without_overdispersion_are_those_of_scipys_inverse(mu):
    _assert_inverse(poisson_from_uniform(UNIFORM, torch.full_like(UNIFORM, mu)), stats.poisson(mu))


def _assert_inverse(draws: Tensor, exact) -> None:
    """The drawn k have P(X > k) <= u < P(X > k - 1), but for rounding."""
    uniform, k = UNIFORM.numpy(), draws.numpy()
    assert (exact.sf(k) <= uniform * (1 + 1e-9) + 1e-14).all()
    assert (uniform < exact.sf(k - 1) * (1 + 1e-9) + 1e-14).all()


@pytest.mark.parametrize(("mu", "theta"), [(2.0, 0.01), (40.0, 20.0), (4.0, 2.0)])
def test_many_counts_too_are_zero_where_the_uniform_number_is_too_large(mu, theta):
    log_mu, log_theta = (torch.full_like(UNIFORM, x).log() for x in (mu, theta))
    draws = nb_from_uniform(UNIFORM, log_mu, log_theta, torch.Generator().manual_seed(0))
    assert torch.equal(draws > 0, stats.nbinom(theta, theta / (theta + mu)).sf(0) > UNIFORM)


@pytest.mark.parametrize("mu", [1e-6, 0.3, 2.9, 3.1, 50.0])
def test_poisson_draws_have_its_moments(mu):
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draws = poisson_from_uniform(uniform, torch.full((100_000,), mu), torch.Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(mu, abs=5 * np.sqrt(mu) / 300)
    assert draws.var().item() == pytest.approx(mu, rel=0.03, abs=5 * np.sqrt(mu) / 300)


def test_candidates_are_uniform_within_steps_and_over_them():
    generator, n = torch.Generator().manual_seed(0), 10_001  # no multiple of the numbers that share a word
    positions, uniform = candidates(torch.full((101, n), 1.0), generator)
    assert torch.equal(positions, torch.arange(101 * n))
    for numbers in (uniform, uniform / UNIFORM_STEP % 1):
        assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("rate", [3e-7, 1e-5, 3e-4, 1.5 * UNIFORM_STEP])
def test_rarer_genes_than_a_step_are_counted_as_often_as_they_should(rate):
    generator, n = torch.Generator().manual_seed(0), 20_000_000
    _, uniform = candidates(torch.full((1, n), 2 * rate), generator)
    found = len(poisson_from_uniform(uniform, torch.full_like(uniform, rate)).nonzero())
    share = -np.expm1(-rate)
    assert found == pytest.approx(n * share, abs=5 * np.sqrt(n * share))
