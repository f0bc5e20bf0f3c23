"""Negative binomial arithmetic that holds in float32, shared by the count distributions.

With m = log mu, a = -log theta::

    log NB(x) = x m - x softplus(m + a) - theta softplus(m + a) + D(x, theta) - lgamma(x + 1)
    D(x, theta) = lgamma(x + theta) - lgamma(theta) - x log theta

Nothing here is clamped with an added epsilon: that would floor log-probabilities and kill gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

STIRLING_FROM = 100.0
"""Above this theta the two lgamma cancel in float32, and D is taken from Stirling's series instead."""
SERIES_BELOW = 0.02
"""Below this u = x / theta, log1p(u)/u - 1 is taken from its power series."""
LOG_THETA_RANGE = (-12.0, 24.0)
"""Where the arithmetic is exact to float32: decoders keep log theta inside."""


def log_rising(x: Tensor, theta: Tensor) -> Tensor:
    """D(x, theta) = lgamma(x + theta) - lgamma(theta) - x log theta for x >= 0; finite with its gradients."""
    direct_theta = theta.clamp(max=STIRLING_FROM)
    direct = torch.lgamma(x + direct_theta) - torch.lgamma(direct_theta) - x * direct_theta.log()
    large_theta = theta.clamp(min=STIRLING_FROM)
    u = x / large_theta
    stirling = x * _log1p_ratio(u) + (x - 0.5) * torch.log1p(u)
    stirling = stirling + _stirling_tail(x + large_theta) - _stirling_tail(large_theta)
    return torch.where(theta > STIRLING_FROM, stirling, direct)


def nb_log_zero(log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(0) = -theta softplus(log mu - log theta)."""
    return -log_theta.exp() * softplus(log_mu - log_theta)


def nb_log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(x) - log NB(0): all that a non-zero count adds to the closed form of the zeros; 0 at x = 0."""
    ratio = x * (log_mu - softplus(log_mu - log_theta))
    return ratio + log_rising(x, log_theta.exp()) - torch.lgamma(x + 1)


def nb_log_prob(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(x) in the mean and inverse-dispersion parameterisation (Var = mu + mu^2 / theta)."""
    return nb_log_zero(log_mu, log_theta) + nb_log_excess(x, log_mu, log_theta)


def sample_nb(mu: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from NB as a Poisson whose rate is Gamma(theta, theta / mu); the shape is that of ``mu``."""
    shape = theta.expand_as(mu).contiguous()
    rate = torch._standard_gamma(shape, generator=generator) * (mu / shape)
    return torch.poisson(rate, generator=generator)


def _log1p_ratio(u: Tensor) -> Tensor:
    """log1p(u)/u - 1 for u >= 0; differences of near-equal numbers are avoided, for the gradient's sake too."""
    small = u.clamp(max=SERIES_BELOW)
    series = -small * (1 / 2 - small * (1 / 3 - small * (1 / 4 - small / 5)))
    large = u.clamp(min=SERIES_BELOW)
    return torch.where(u < SERIES_BELOW, series, torch.log1p(large) / large - 1)


def _stirling_tail(z: Tensor) -> Tensor:
    """lgamma(z) - ((z - 1/2) log z - z + log(2 pi)/2) for large z (NIST DLMF 5.11.1)."""
    return (1 / 12 - 1 / (360 * z * z)) / z
