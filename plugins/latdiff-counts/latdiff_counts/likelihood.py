"""Negative binomial arithmetic that holds in float32, shared by the count distributions.

With m = log mu, l = log theta and u = x / theta::

    log NB(0) = -theta softplus(m - l)
    log NB(x) - log NB(0) = lgamma(x + theta) - lgamma(theta) - lgamma(x + 1) - x softplus(l - m)
                          = x (m - softplus(m - l)) - lgamma(x + 1) + D(x, theta)
    D(x, theta) = lgamma(x + theta) - lgamma(theta) - x l

The two forms of the second line are equal; the first loses its digits where theta is large, where lgamma(x + theta) -
lgamma(theta) cancels x l, and the second where theta is small. Nothing here is clamped with an added epsilon: that
would floor log-probabilities and kill gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

STIRLING_FROM = 8.0
"""Above this theta D is taken from Stirling's series, which is exact to float64 from here on."""
SERIES_BELOW = 0.02
"""Below this u, log1p(u)/u - 1 is taken from its power series."""
LOG_THETA_RANGE = (-12.0, 24.0)
"""Where the arithmetic is exact to float32: decoders keep log theta inside."""


def nb_log_zero(log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(0) = -theta softplus(log mu - log theta)."""
    return -log_theta.exp() * softplus(log_mu - log_theta)


def nb_log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(x) - log NB(0): all that a non-zero count adds to the closed form of the zeros; 0 at x = 0."""
    theta = log_theta.exp()
    # Each sum begins with two large terms of opposite sign: in another order float32 rounds more often at their size.
    small, large = theta.clamp(max=STIRLING_FROM), theta.clamp(min=STIRLING_FROM)
    direct = torch.lgamma(x + small) - torch.lgamma(x + 1) - torch.lgamma(small) - x * softplus(log_theta - log_mu)
    stirling = x * (log_mu - softplus(log_mu - log_theta)) - torch.lgamma(x + 1) + _log_rising(x, large)
    return torch.where(theta > STIRLING_FROM, stirling, direct)


def nb_log_prob(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(x) in the mean and inverse-dispersion parameterisation (Var = mu + mu^2 / theta)."""
    return nb_log_zero(log_mu, log_theta) + nb_log_excess(x, log_mu, log_theta)


def sample_nb(mu: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from NB as a Poisson whose rate is Gamma(theta, theta / mu); the shape is that of ``mu``."""
    shape = theta.expand_as(mu).contiguous()
    rate = torch._standard_gamma(shape, generator=generator) * (mu / shape)
    return torch.poisson(rate, generator=generator)


def _log_rising(x: Tensor, theta: Tensor) -> Tensor:
    """D(x, theta) for theta >= ``STIRLING_FROM``, from Stirling's series of both lgamma in u = x / theta."""
    u = x / theta
    tails = _stirling_tail(x + theta) - _stirling_tail(theta)
    return x * _log1p_ratio(u) + (x - 0.5) * torch.log1p(u) + tails


def _log1p_ratio(u: Tensor) -> Tensor:
    """log1p(u)/u - 1 for u >= 0; differences of near-equal numbers are avoided, for the gradient's sake too.

    The series is that of log1p(u) = 2 artanh(s) with s = u / (2 + u) (NIST DLMF 4.6.6).
    """
    small, large = u.clamp(max=SERIES_BELOW), u.clamp(min=SERIES_BELOW)
    s = small / (2 + small)
    w = s * s
    series = -s + 2 * w / (2 + small) * (1 / 3 + w * (1 / 5 + w * (1 / 7 + w / 9)))
    return torch.where(u < SERIES_BELOW, series, torch.log1p(large) / large - 1)


def _stirling_tail(z: Tensor) -> Tensor:
    """lgamma(z) - ((z - 1/2) log z - z + log(2 pi)/2) for large z (NIST DLMF 5.11.1)."""
    w = 1 / (z * z)
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w * (1 / 1188 - w * 691 / 360360))))) / z
