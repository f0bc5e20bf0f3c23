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
from latdiff_counts.sampling import positive_nb, sample_nb
from latdiff_counts.sparse_distribution import SparseCountDistribution

INITIAL_TAIL_LOGIT = -3.5
"""Training starts with 3 % of the counts in the tail: near the plain NB, where the mixture still has a gradient."""
INITIAL_GAP = 3.5
"""Training starts with a tail whose theta is a thirtieth of the body's. On pbmc3k a start at a quarter of it left the
held-out likelihood 24 nats per cell lower: the tail stayed beside the body, where rare large counts pull both."""


class NegativeBinomialMixture(SparseCountDistribution):
    """p(x) = (1 - pi) NB(x; mu, theta) + pi NB(x; mu, theta_tail), with pi = sigmoid(tail_logits).

    Both components have the mean mu, so that only the tail is mixed: Var = mu + mu^2 ((1 - pi) / theta + pi /
    theta_tail). scvi-tools' ``NegativeBinomialMixture`` is another model, foreground and background of a protein: two
    means, and one theta unless a second is given.

    Parameters
    ----------
    log_mu
        Log of the mean, (batch, genes).
    log_theta
        Log of the inverse dispersion of the body, (genes,) or (batch, genes).
    log_theta_tail
        Log of the inverse dispersion of the tail, (genes,) or (batch, genes).
    tail_logits
        Logit of the probability of the tail, (genes,) or (batch, genes).
    """

    def __init__(self, log_mu: Tensor, log_theta: Tensor, log_theta_tail: Tensor, tail_logits: Tensor) -> None:
        super().__init__(log_mu, log_theta, log_theta_tail, tail_logits)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0].exp()

    @property
    def variance(self) -> Tensor:
        _, log_theta, log_theta_tail, tail_logits = self.parameters
        body = torch.sigmoid(-tail_logits) * (-log_theta).exp()
        tail = torch.sigmoid(tail_logits) * (-log_theta_tail).exp()
        return self.mean + self.mean**2 * (body + tail)

    @staticmethod
    def log_zero(log_mu: Tensor, log_theta: Tensor, log_theta_tail: Tensor, tail_logits: Tensor) -> Tensor:
        return log_mix(tail_logits, nb_log_zero(log_mu, log_theta), nb_log_zero(log_mu, log_theta_tail))

    @staticmethod
    def log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor, log_theta_tail: Tensor, tail_logits: Tensor) -> Tensor:
        # Each component's excess, weighted by the component's share of the zeros.
        body_zero, tail_zero = nb_log_zero(log_mu, log_theta), nb_log_zero(log_mu, log_theta_tail)
        share = tail_logits + tail_zero - body_zero  # logit of the tail's share
        return log_mix(share, nb_log_excess(x, log_mu, log_theta), nb_log_excess(x, log_mu, log_theta_tail))

    @staticmethod
    def draw(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        log_mu, log_theta, log_theta_tail, tail_logits = parameters
        in_tail = torch.bernoulli(torch.sigmoid(tail_logits), generator=generator).bool()
        return sample_nb(log_mu.exp(), torch.where(in_tail, log_theta_tail, log_theta).exp(), generator)

    @staticmethod
    def draw_positive(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        log_mu, log_theta, log_theta_tail, tail_logits = parameters
        seen = [torch.expm1(nb_log_zero(log_mu, theta)).neg_() for theta in (log_theta, log_theta_tail)]
        in_tail = torch.sigmoid(tail_logits + (seen[1] / seen[0]).log())  # of the counts that are not zero
        drawn_in_tail = torch.bernoulli(in_tail, generator=generator).bool()
        return positive_nb(log_mu, torch.where(drawn_in_tail, log_theta_tail, log_theta), generator)


class NegativeBinomialMixtureDecoder(Decoder):
    """A mirrored MLP to the mean of each gene, its dispersion, and the probability and gap of its tail.

    theta_tail = theta exp(-softplus(gap)) < theta. Probability and gap are one number per gene, and learn as much
    faster than the network as the dispersion does.
    """

    def __init__(self, network: CountNetwork, dispersion: Dispersion, *, genes: int, rate: float) -> None:
        super().__init__()
        self.network = network
        self.dispersion = dispersion
        self.tail_logits = FastParameter(torch.full((genes,), INITIAL_TAIL_LOGIT), rate)
        self.gap = FastParameter(torch.full((genes,), INITIAL_GAP), rate)

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> NegativeBinomialMixture:
        log_mu, hidden = self.network(z, library, covariates)
        log_theta = self.dispersion(hidden, library, covariates)
        log_theta_tail = (log_theta - softplus(self.gap())).clamp(*LOG_THETA_RANGE)
        return NegativeBinomialMixture(log_mu, log_theta, log_theta_tail, self.tail_logits())

    def log_prior(self) -> Tensor:
        return self.network.log_prior()


class NegativeBinomialMixtureDecoderConfig(DispersedConfig, DecoderConfig):
    """Two negative binomials with one mean: heavier tails than a single one."""

    kind: Literal["negative_binomial_mixture"] = "negative_binomial_mixture"

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> NegativeBinomialMixtureDecoder:
        network, dispersion = self.build_network(sizes, statistics), self.build_dispersion(sizes, statistics)
        return NegativeBinomialMixtureDecoder(network, dispersion, genes=sizes.genes, rate=self.dispersion_rate)
