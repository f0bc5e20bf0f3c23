"""Draws of counts: dense ones, and those of non-zeros alone, which are most of the work where most counts are zero.

Few counts are drawn by inversion: one uniform number, and more than k counts where it is below the probability of that.

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
LARGEST_SHARE = 0.8
"""Above this p = mu / (mu + theta) the counts of a family may be too many to be looked for one by one."""
MOST_STEPS = 250
"""Larger counts have a probability below 1e-16 up to both bounds; rounding must not look for them."""
UNIFORM_STEP = 2.0**-8
"""Distance of neighbouring uniform numbers of 8 bits, eight of which cost one random number of 64."""


def sample_nb(mu: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from NB as a Poisson whose rate is Gamma(theta, theta / mu); the shape is that of ``mu``."""
    shape = theta.expand_as(mu).contiguous()
    rate = torch._standard_gamma(shape, generator=generator) * (mu / shape)
    return torch.poisson(rate, generator=generator)


def candidates(bound: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Where counts may be other than zero: a uniform number for each entry, kept where it may lie below ``bound``.

    Parameters
    ----------
    bound
        At least the probability of a count that is not zero, (batch, genes), such as the mean (Markov's inequality).
    generator
        Where the random numbers come from.

    Returns
    -------
    tuple
        Ascending positions in the flattened (batch, genes), and the uniform numbers there, in float64, both
        (candidates,).
    """
    bound = bound.view(-1)
    words = torch.empty(-(-len(bound) // 8), dtype=torch.int64, device=bound.device)
    words.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    steps = words.view(torch.uint8)[: len(bound)].to(torch.float32).mul_(UNIFORM_STEP)
    positions = (steps < bound).nonzero().squeeze(-1)
    within = torch.rand(positions.shape, generator=generator, dtype=torch.float64, device=bound.device)
    return positions, within.mul_(UNIFORM_STEP).add_(steps[positions])


def poisson_from_uniform(uniform: Tensor, mu: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from Poisson(mu), zero where ``uniform``, in [0, 1), is at least P(X > 0), (entries,), in float64.

    The generator is asked where counts are many.
    """
    mu = mu.double()
    above = -torch.expm1(-mu)
    few = mu <= FEW
    counts = _inverted(torch.where(few, uniform, 1.0), above, mu, torch.zeros_like(mu))
    many = (~few & (uniform < above)).nonzero().squeeze(-1)
    while len(many):
        counts[many] = torch.poisson(mu[many], generator=generator)
        many = many[counts[many] == 0]
    return counts


def nb_from_uniform(
    uniform: Tensor, log_mu: Tensor, log_theta: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Draw from NB, zero where ``uniform``, in [0, 1), is at least P(X > 0), (entries,), in float64.

    The generator is asked where counts are many.
    """
    log_mu, log_theta = log_mu.double(), log_theta.double()
    odds, theta = log_mu - log_theta, log_theta.exp()
    share, families = odds.sigmoid(), theta * softplus(odds)
    above = -torch.expm1(-families)
    few = (families <= FEW) & (share <= LARGEST_SHARE)
    counts = _inverted(torch.where(few, uniform, 1.0), above, theta * share, share)
    many = (~few & (uniform < above)).nonzero().squeeze(-1)
    counts[many] = _positive_nb(log_mu[many], log_theta[many], families[many], generator)
    return counts


def _inverted(uniform: Tensor, above: Tensor, start: Tensor, slope: Tensor) -> Tensor:
    """The smallest k of which P(X > k) is at most ``uniform``, (entries,).

    Parameters
    ----------
    uniform
        In [0, 1].
    above
        P(X > 0).
    start, slope
        Of p(k + 1) = p(k) (start + slope k) / (k + 1), the recursion of Poisson and NB (Panjer 1981, ASTIN Bulletin
        12:22).
    """
    counts = (uniform < above).to(uniform.dtype)
    p = (1 - above) * start
    above = above - p
    entries, k = (uniform < above).nonzero().squeeze(-1), 1
    uniform, above, p, start, slope = (x[entries] for x in (uniform, above, p, start, slope))
    while len(entries) and k < MOST_STEPS:
        p = p * (start + slope * k) / (k + 1)
        above, k = above - p, k + 1
        counts[entries] = k
        left = (uniform < above).nonzero().squeeze(-1)
        entries, uniform, above, p, start, slope = (x[left] for x in (entries, uniform, above, p, start, slope))
    return counts


def _positive_nb(log_mu: Tensor, log_theta: Tensor, families: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from NB given that it is not zero, by the expected number of families, (entries,), in float64."""
    counts = torch.zeros_like(log_mu)
    few, many = (part.nonzero().squeeze(-1) for part in (families <= FEW, families > FEW))
    rate, log_other = families[few], -softplus(log_mu[few] - log_theta[few])  # log(1 - p)
    left = poisson_from_uniform(_uniform(rate, generator) * -torch.expm1(-rate), rate)
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
