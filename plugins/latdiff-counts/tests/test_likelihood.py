"""Negative binomial arithmetic in float32, against 50-digit arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import softplus

from latdiff_counts.likelihood import (
    LOG_THETA_RANGE,
    nb_log_excess,
    nb_log_excess_in_float64,
    nb_log_zero,
)

COUNTS = (0, 1, 2, 5, 10, 100, 1000, 10000)


def nb_log_prob(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(x), of the two parts that `NegativeBinomial` evaluates where they are needed."""
    return nb_log_zero(log_mu, log_theta) + nb_log_excess(x, log_mu, log_theta)


@dataclass(frozen=True)
class Grid:
    """Everything on (log theta, count, log mean).

    Attributes
    ----------
    log_theta, x, log_mu
        Coordinates in float32, each broadcastable to the grid.
    log_prob, by_log_mu, by_log_theta
        The exact value and its derivatives, in float64.
    """

    log_theta: Tensor
    x: Tensor
    log_mu: Tensor
    log_prob: Tensor
    by_log_mu: Tensor
    by_log_theta: Tensor

    def relative(self, error: Tensor) -> Tensor:
        """An error relative to the largest of 1, |log-probability|, count and mean."""
        scale = torch.maximum(self.log_prob.abs(), torch.maximum(self.x.double(), self.log_mu.double().exp()))
        return error.double().abs() / scale.clamp(min=1)


@pytest.fixture(scope="module")
def grid() -> Grid:
    """The whole range that decoders can reach; what cancels is done with 50 digits, the rest in float64."""
    log_theta = torch.arange(LOG_THETA_RANGE[0], LOG_THETA_RANGE[1] + 0.1, 0.25)
    x, log_mu = torch.tensor(COUNTS, dtype=torch.float32), torch.arange(-30, 10.1, 0.25)
    with mpmath.workdps(50):
        exact = [[_cancelling(value, count) for count in COUNTS] for value in log_theta.tolist()]
    rising, derivative = torch.tensor(exact, dtype=torch.float64).unsqueeze(2).unbind(-1)  # (log_theta, x, 1)
    axes = (log_theta.view(-1, 1, 1), x.view(1, -1, 1), log_mu.view(1, 1, -1))
    log_t, count, m = (axis.double() for axis in axes)
    theta, mu = log_t.exp(), m.exp()
    plus = softplus(m - log_t, threshold=40)
    return Grid(
        *axes,
        log_prob=count * (m - plus) - theta * plus + rising - torch.lgamma(count + 1),
        by_log_mu=theta * (count - mu) / (theta + mu),
        by_log_theta=derivative + (count + theta) * torch.sigmoid(m - log_t) - theta * plus,
    )


def _cancelling(log_theta: float, x: int) -> tuple[float, float]:
    """D = lgamma(x + theta) - lgamma(theta) - x log theta, and its derivative by log theta."""
    theta = mpmath.exp(mpmath.mpf(log_theta))
    value = mpmath.loggamma(theta + x) - mpmath.loggamma(theta) - x * mpmath.mpf(log_theta)
    return float(value), float(theta * (mpmath.digamma(theta + x) - mpmath.digamma(theta)) - x)


def test_float32_log_probabilities_are_exact_over_the_whole_range(grid):
    """Error below 1.2e-6, where subtracting two float32 lgamma is wrong by tens of nats."""
    error = nb_log_prob(grid.x, grid.log_mu, grid.log_theta) - grid.log_prob
    assert grid.relative(error).max() < 1.2e-6


def test_float32_gradients_are_finite_and_exact_over_the_whole_range(grid):
    log_mu, log_theta = (
        axis.expand(grid.log_prob.shape).clone().requires_grad_() for axis in (grid.log_mu, grid.log_theta)
    )
    nb_log_prob(grid.x, log_mu, log_theta).sum().backward()
    for given, exact in ((log_mu.grad, grid.by_log_mu), (log_theta.grad, grid.by_log_theta)):
        assert given.isfinite().all()
        scale = torch.maximum(exact.abs(), torch.maximum(grid.x.double(), grid.log_mu.double().exp())).clamp(min=1)
        assert ((given - exact).abs() / scale).max() < 1.2e-6


def test_the_short_form_of_a_gpu_is_exact_over_the_whole_range(grid):
    """There it stands for float32, whose last digit it keeps."""
    value, slope = nb_log_excess_in_float64(*torch.broadcast_tensors(grid.x, grid.log_mu, grid.log_theta))
    log_mu, log_theta = grid.log_mu.double(), grid.log_theta.double()
    theta, plus = log_theta.exp(), softplus(log_mu - log_theta, threshold=40)
    exact = grid.log_prob + theta * plus, grid.by_log_theta + theta * plus - theta * torch.sigmoid(log_mu - log_theta)
    for given, truth in zip((value, slope), exact, strict=True):
        assert given.dtype == torch.float32
        assert grid.relative(given - truth).max() < 1.2e-7


def test_float64_is_exact_to_ten_digits(grid):
    log_prob = nb_log_prob(grid.x.double(), grid.log_mu.double(), grid.log_theta.double())
    assert grid.relative(log_prob - grid.log_prob).max() < 1e-9


def _exact_gradients(x: float, log_mu: float, log_theta: float) -> list[float]:
    """Of log NB(x) by log mu and by log theta, with 50 digits."""
    with mpmath.workdps(50):
        theta, mu = (mpmath.exp(mpmath.mpf(value)) for value in (log_theta, log_mu))
        digammas = mpmath.digamma(x + theta) - mpmath.digamma(theta)
        by_log_theta = theta * (digammas - mpmath.log1p(mu / theta) + (mu - x) / (mu + theta))
        return [float(theta * (x - mu) / (mu + theta)), float(by_log_theta)]


@pytest.mark.parametrize("x", [1e2, 1e4, 1e6])
def test_gradients_of_large_counts_keep_their_digits_beside_themselves(x):
    """Not only beside the count, as reads have them: where theta is small they are far smaller than that."""
    for log_theta in (-9.0, -2.0, 0.0, 1.5):
        for log_mu in (math.log(x) - 2, math.log(x) + 1.1):
            parameters = [torch.tensor(value, requires_grad=True) for value in (log_mu, log_theta)]
            nb_log_prob(torch.tensor(x), *parameters).backward()
            exact = _exact_gradients(x, *(parameter.item() for parameter in parameters))
            assert [p.grad.item() for p in parameters] == pytest.approx(exact, rel=2e-5)


def test_whole_numbers_are_counts_too():
    log_mu, log_theta = torch.linspace(-2, 2, 4), torch.tensor(0.5)
    counts = torch.tensor([0, 1, 2, 30])
    assert torch.equal(nb_log_excess(counts, log_mu, log_theta), nb_log_excess(counts.float(), log_mu, log_theta))


@pytest.mark.parametrize("dispersion", [1e-7, 1e-8])
def test_a_tiny_dispersion_gives_the_poisson_limit(dispersion):
    """Here the difference of two float32 lgamma makes of -1.71 a +2.7, and at the smaller dispersion a +57."""
    x, mu = torch.tensor(4.0), torch.tensor(4.85)
    log_prob = nb_log_prob(x, mu.log(), -torch.tensor(dispersion).log())
    assert log_prob.item() == pytest.approx(-1.7121, abs=1e-4)
    assert log_prob.item() == pytest.approx(stats.poisson.logpmf(4, 4.85), abs=1e-5)


@pytest.mark.parametrize("log_theta", [-4.0, 0.0, 4.6, 9.0, 16.0, 24.0])
def test_probabilities_sum_to_one_in_float32(log_theta):
    """What training would exploit if they did not."""
    x = torch.arange(20_000.0)
    for log_mu in (-5.0, 0.0, 3.0):
        total = nb_log_prob(x, torch.tensor(log_mu), torch.tensor(log_theta)).double().exp().sum()
        assert total.item() == pytest.approx(1.0, abs=2e-4 if log_theta < 0 else 2e-5)


def test_zeros_and_the_rest_add_up():
    """The closed form of zero is the log-probability of zero, and the excess of a zero is exactly nothing."""
    log_mu, log_theta = torch.linspace(-30, 10, 41).unsqueeze(-1), torch.linspace(*LOG_THETA_RANGE, 37)
    zero = torch.zeros(())
    assert torch.equal(nb_log_excess(zero, log_mu, log_theta), torch.zeros(41, 37))
    assert torch.equal(nb_log_prob(zero, log_mu, log_theta), nb_log_zero(log_mu, log_theta))


def test_log_probabilities_have_no_floor():
    """With an epsilon inside the log nothing lies below -18.4, and nothing there has a gradient."""
    log_mu = torch.tensor(-30.0, requires_grad=True)
    log_prob = nb_log_prob(torch.tensor(3.0), log_mu, torch.tensor(0.0))
    log_prob.backward()
    assert log_prob.item() == pytest.approx(-90.0, abs=0.01)
    assert log_mu.grad.item() == pytest.approx(3.0)
