"""The negative binomial mixture decoder: for counts with heavier tails than one NB has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from latdiff_core.interfaces import Covariates, Decoder, DecoderConfig, GeneStatistics, Sizes
from latdiff_counts.count_network import CountNetwork, DispersedConfig
from latdiff_counts.dispersion import Dispersion
from latdiff_counts.fast_parameter import FastParameter
from latdiff_counts.likelihood import LOG_THETA_RANGE, log_mix, nb_log_excess, nb_log_zero
from latdiff_counts.sampling import nb_from_uniform, sample_nb
from latdiff_counts.sparse_distribution import SparseCountDistribution

INITIAL_TAIL_LOGIT = -3.5
"""Training starts with 3 % of the counts in the tail: near the plain NB, where the mixture still has a gradient."""
INITIAL_LOG_BURST = 2.5
"""Training starts with a tail that varies 13 times as much as a Poisson does."""
BURST_STD = 1.0
"""Of genes' log bursts around what all genes have in common, in their prior. Zeros are the likelier the larger the
bursts, and in genes that few cells have hardly anything counters it: of genes that one to three of 1,000 PBMCs had,
single generated cells had up to 3,057 molecules. The common burst of those is 19 molecules, of worm neurons 1.5."""
LOG_BURST_RANGE = (-8.0, 12.0)


class NegativeBinomialMixture(SparseCountDistribution):
    """p(x) = (1 - pi) NB(x; mu, theta) + pi NB(x; mu, mu / burst), with pi = sigmoid(tail_logits).

    The body's variance grows with the square of the mean, mu + mu^2 / theta; the tail's with the mean itself,
    mu (1 + burst). An NB is the count of a gene that is expressed in bursts, theta of them in a molecule's lifetime,
    with mu / theta molecules each on average (Shahrezaei & Swain 2008, PNAS 105:17256): in the body a larger mean means
    larger bursts, in the tail more of them. A tail with a theta of its own has to fit the rare outliers of genes that
    are hardly expressed, and then gives those that are to hundreds in single cells.

    Both components have the mean mu. Which is the wider one is for the data to say: where mu > burst theta, in genes
    that are counted a lot, it is the body. scvi-tools' ``NegativeBinomialMixture`` is another
    model, foreground and background of a protein: two means, and one theta unless a second is given.

    Parameters
    ----------
    log_mu
        Log of the mean, (batch, genes).
    log_theta
        Log of the inverse dispersion of the body, (genes,) or (batch, genes).
    log_burst
        Log of the mean burst of the tail, in molecules, (genes,) or (batch, genes).
    tail_logits
        Logit of the probability of the tail, (genes,) or (batch, genes).
    """

    def __init__(self, log_mu: Tensor, log_theta: Tensor, log_burst: Tensor, tail_logits: Tensor) -> None:
        super().__init__(log_mu, log_theta, log_burst, tail_logits)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0].exp()

    @property
    def variance(self) -> Tensor:
        _, log_theta, log_burst, tail_logits = self.parameters
        body = torch.sigmoid(-tail_logits) * self.mean * (-log_theta).exp()
        return self.mean * (1 + body + torch.sigmoid(tail_logits) * log_burst.exp())

    @staticmethod
    def log_zero(log_mu: Tensor, log_theta: Tensor, log_burst: Tensor, tail_logits: Tensor) -> Tensor:
        return log_mix(tail_logits, nb_log_zero(log_mu, log_theta), _tail_log_zero(log_mu, log_burst))

    @staticmethod
    def log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor, log_burst: Tensor, tail_logits: Tensor) -> Tensor:
        # Each component's excess, weighted by the component's share of the zeros.
        body_zero, tail_zero = nb_log_zero(log_mu, log_theta), _tail_log_zero(log_mu, log_burst)
        share = tail_logits + tail_zero - body_zero  # logit of the tail's share
        tail = nb_log_excess(x, log_mu, _log_theta_tail(log_mu, log_burst))
        return log_mix(share, nb_log_excess(x, log_mu, log_theta), tail)

    @staticmethod
    def draw(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        log_mu, log_theta = _drawn_component(*parameters, generator)
        return sample_nb(log_mu.exp(), log_theta.exp(), generator)

    @staticmethod
    def draw_from_uniform(uniform: Tensor, parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        return nb_from_uniform(uniform, *_drawn_component(*parameters, generator), generator)


def _drawn_component(
    log_mu: Tensor, log_theta: Tensor, log_burst: Tensor, tail_logits: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Log of mean and inverse dispersion of body or tail, drawn for every entry."""
    in_tail = torch.bernoulli(torch.sigmoid(tail_logits), generator=generator).bool()
    return log_mu, torch.where(in_tail, _log_theta_tail(log_mu, log_burst), log_theta)


def _log_theta_tail(log_mu: Tensor, log_burst: Tensor) -> Tensor:
    """Log of mu / burst, kept where the arithmetic is exact; below it lie only means that are never counted."""
    return (log_mu - log_burst).clamp(min=LOG_THETA_RANGE[0])


def _tail_log_zero(log_mu: Tensor, log_burst: Tensor) -> Tensor:
    """log NB(0; mu, mu / burst) = -mu log1p(burst) / burst: of the gene alone but for the mean."""
    return log_mu.exp() * (-softplus(log_burst) * (-log_burst).exp())


class NegativeBinomialMixtureDecoder(Decoder):
    """A mirrored MLP to the mean of each gene, its dispersion, and the probability and bursts of its tail.

    The last two are one number per gene each, and learn as much faster than the network as the dispersion does. The log
    burst of a gene is one that all have in common plus an offset, which has a normal prior.
    """

    def __init__(self, network: CountNetwork, dispersion: Dispersion, *, genes: int, rate: float) -> None:
        super().__init__()
        self.network = network
        self.dispersion = dispersion
        self.tail_logits = FastParameter(torch.full((genes,), INITIAL_TAIL_LOGIT), rate)
        self.common_log_burst = FastParameter(torch.tensor(INITIAL_LOG_BURST), rate)
        self.log_burst = FastParameter(torch.zeros(genes), rate, BURST_STD)

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> NegativeBinomialMixture:
        log_mu, hidden = self.network(z, library, covariates)
        log_theta = self.dispersion(hidden, library, covariates)
        log_burst = (self.common_log_burst() + self.log_burst()).clamp(*LOG_BURST_RANGE)
        return NegativeBinomialMixture(log_mu, log_theta, log_burst, self.tail_logits())

    def log_prior(self) -> Tensor:
        return self.network.log_prior(*self.dispersion.heads) + self.dispersion.log_prior() + self.log_burst.log_prior()


class NegativeBinomialMixtureDecoderConfig(DispersedConfig, DecoderConfig):
    """Two negative binomials with one mean, one of them in bursts of one size: heavier tails than a single one."""

    kind: Literal["negative_binomial_mixture"] = "negative_binomial_mixture"

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> NegativeBinomialMixtureDecoder:
        network, dispersion = self.build_network(sizes, statistics), self.build_dispersion(sizes, statistics)
        return NegativeBinomialMixtureDecoder(network, dispersion, genes=sizes.genes, rate=self.dispersion_rate)
