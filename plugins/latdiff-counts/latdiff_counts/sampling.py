"""Draws of counts: dense ones, and those of non-zeros alone, which are most of the work where most counts are zero.

A negative binomial is a compound Poisson: lambda = theta log(1 + mu / theta) families are expected, of which each has a
logarithmic number of members with p = mu / (mu + theta) (Quenouille 1949, Biometrics 5:162). Its zeros are those of the
families, exp(-lambda); a count that is not zero is the members of at least one family.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

FEW = 3.0
"""Above this Poisson rate fewer than 5 % are zeros, and it is faster to draw until there is none."""
MOST_STEPS = 60
"""More arrivals than this have a probability below 1e-50 at a rate of ``FEW``; rounding must not look for them."""
UNIFORM_STEP = 2.0**-16
"""Distance of neighbouring uniform numbers of 16 bits, four of which cost one random number of 64."""


def sample_nb(mu: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from NB as a Poisson whose rate is Gamma(theta, theta / mu); the shape is that of ``mu``."""
    shape = theta.expand_as(mu).contiguous()
    rate = torch._standard_gamma(shape, generator=generator) * (mu / shape)
    return torch.poisson(rate, generator=generator)


def candidates(bound: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Where counts may be other than zero: a uniform number for each entry, kept where it is below ``bound``.

    Parameters
    ----------
    bound
        At least the probability of a count that is not zero, (batch, genes), such as the mean (Markov's inequality).
    generator
        Where the random numbers come from.

    Returns
    -------
    tuple
        Ascending positions in the flattened (batch, genes), and the uniform numbers there, both (candidates,).
    """
    bound = bound.view(-1)
    words = torch.empty(-(-len(bound) // 4), dtype=torch.int64, device=bound.device)
    words.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    uniform = words.view(torch.uint16)[: len(bound)].to(torch.float32).mul_(UNIFORM_STEP)
    positions = (uniform < bound).nonzero().squeeze(-1)
    return positions, uniform[positions]


def accepted(probability: Tensor, uniform: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Indices of the candidates that are not zero, ascending, by the probability of that, (candidates,)."""
    # Uniform numbers are steps: the last one is taken by the share of it that is below. Rare genes live on the first.
    share = (probability - uniform) / UNIFORM_STEP
    below = torch.rand(share.shape, generator=generator, device=share.device) < share
    return below.nonzero().squeeze(-1)


def positive_poisson(mu: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from Poisson(mu) given that it is not zero, (entries,), in float64."""
    mu = mu.double()
    counts = torch.ones_like(mu)
    few, many = (part.nonzero().squeeze(-1) for part in (mu <= FEW, mu > FEW))
    # By inversion, one more for all whose uniform number lies above; most are done at 1.
    rate = mu[few]
    share = rate / torch.expm1(rate)  # p(1) / (1 - p(0))
    rest = _uniform(rate, generator) - share
    count = 1
    while len(left := (rest >= 0).nonzero().squeeze(-1)) and count < MOST_STEPS:
        count += 1
        few, rate, rest = few[left], rate[left], rest[left]
        share = share[left] * rate / count
        rest = rest - share
        counts[few] = count
    while len(many):
        counts[many] = torch.poisson(mu[many], generator=generator)
        many = many[counts[many] == 0]
    return counts


def positive_nb(log_mu: Tensor, log_theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from NB given that it is not zero, (entries,), in float64."""
    log_mu, log_theta = log_mu.double(), log_theta.double()
    log_other = -softplus(log_mu - log_theta)  # log(1 - p)
    families = -log_theta.exp() * log_other
    counts = torch.zeros_like(log_mu)
    few, many = (part.nonzero().squeeze(-1) for part in (families <= FEW, families > FEW))
    left, log_other = positive_poisson(families[few], generator), log_other[few]
    while len(few):
        counts[few] += _logarithmic(log_other, generator)
        left = left - 1
        more = (left > 0).nonzero().squeeze(-1)
        few, left, log_other = few[more], left[more], log_other[more]
    while len(many):
        counts[many] = sample_nb(log_mu[many].exp(), log_theta[many].exp(), generator)
        many = many[counts[many] == 0]
    return counts


def _logarithmic(log_other: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from the logarithmic distribution by log(1 - p) (Kemp 1981, Appl. Statist. 30:249, algorithm LK)."""
    counts, uniform = torch.ones_like(log_other), _uniform(log_other, generator)
    above = (uniform < -torch.expm1(log_other)).nonzero().squeeze(-1)  # all others are 1
    power = log_other[above]
    power = power * _uniform(power, generator)
    log_q = torch.where(power > -0.7, torch.log(-torch.expm1(power)), torch.log1p(-torch.exp(power)))
    counts[above] += (torch.log(uniform[above]) / log_q).floor()
    return counts


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in (0, 1)."""
    drawn = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    return drawn.clamp_(min=torch.finfo(like.dtype).tiny)
