"""The zero-inflated negative binomial decoder: for counts with more zeros than an NB explains."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import CountDistribution, Decoder, DecoderConfig, GeneStatistics
from latdiff_counts.count_network import CountNetwork, CountNetworkConfig, GeneDispersion
from latdiff_counts.likelihood import nb_log_excess, nb_log_zero, sample_nb

INITIAL_ZI_LOGIT = -3.0
"""Training starts at 5 % zero inflation: near the plain NB, where the gate still has a gradient."""


class ZeroInflatedNegativeBinomial(CountDistribution):
    """p(x) = pi 1[x = 0] + (1 - pi) NB(x), with pi = sigmoid(zi_logits).

    Parameters
    ----------
    log_mu
        Log of the mean of the NB part, (batch, genes).
    log_theta
        Log of its inverse dispersion, (genes,) or (batch, genes).
    zi_logits
        Logit of the zero-inflation probability, (genes,) or (batch, genes).
    """

    def __init__(self, log_mu: Tensor, log_theta: Tensor, zi_logits: Tensor) -> None:
        super().__init__(batch_shape=log_mu.shape, validate_args=False)
        self.log_mu = log_mu
        self.log_theta = log_theta
        self.zi_logits = zi_logits

    @property
    def mean(self) -> Tensor:
        return self.log_mu.exp() * torch.sigmoid(-self.zi_logits)

    @property
    def variance(self) -> Tensor:
        mu, pi = self.log_mu.exp(), torch.sigmoid(self.zi_logits)
        return (1 - pi) * mu * (1 + mu * ((-self.log_theta).exp() + pi))

    def _log_zero(self) -> Tensor:
        nb_zero = nb_log_zero(self.log_mu, self.log_theta)
        return torch.logaddexp(logsigmoid(self.zi_logits), logsigmoid(-self.zi_logits) + nb_zero)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.log_mu.dtype)
        nonzero = logsigmoid(-self.zi_logits) + nb_log_zero(self.log_mu, self.log_theta)
        nonzero = nonzero + nb_log_excess(value, self.log_mu, self.log_theta)
        return torch.where(value > 0, nonzero, self._log_zero())

    def log_likelihood(self, counts: CountBatch) -> Tensor:
        """Every gene as a zero, and at the non-zeros the difference to that."""
        log_zero = self._log_zero()
        at = (counts.rows, counts.indices)
        log_mu = self.log_mu[at]
        log_theta = self.log_theta.expand_as(self.log_mu)[at]
        zi_logits = self.zi_logits.expand_as(self.log_mu)[at]
        nonzero = logsigmoid(-zi_logits) + nb_log_zero(log_mu, log_theta)
        nonzero = nonzero + nb_log_excess(counts.values.to(log_mu.dtype), log_mu, log_theta)
        return log_zero.sum(-1) + counts.sum_per_cell(nonzero - log_zero[at])

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        with torch.no_grad():
            mu = self.log_mu.exp().expand(*sample_shape, *self.batch_shape)
            counts = sample_nb(mu, self.log_theta.exp(), generator)
            keep = torch.bernoulli(torch.sigmoid(-self.zi_logits).expand_as(mu), generator=generator)
            return counts * keep


class ZeroInflatedNegativeBinomialDecoder(Decoder):
    """A mirrored MLP to mean and zero inflation of each gene and cell, with one dispersion per gene."""

    def __init__(self, network: CountNetwork, dispersion: GeneDispersion) -> None:
        super().__init__()
        self.network = network
        self.dispersion = dispersion
        self.zi_logits = nn.Linear(network.logits.in_features, network.logits.out_features)
        nn.init.zeros_(self.zi_logits.weight)
        nn.init.constant_(self.zi_logits.bias, INITIAL_ZI_LOGIT)

    def forward(self, z: Tensor, library: Tensor) -> ZeroInflatedNegativeBinomial:
        log_mu, hidden = self.network(z, library)
        return ZeroInflatedNegativeBinomial(log_mu, self.dispersion(), self.zi_logits(hidden).to(log_mu.dtype))


class ZeroInflatedNegativeBinomialDecoderConfig(CountNetworkConfig, DecoderConfig):
    """Negative binomial counts with additional zeros."""

    kind: Literal["zero_inflated_negative_binomial"] = "zero_inflated_negative_binomial"

    def build(
        self, *, genes: int, latent_dim: int, statistics: GeneStatistics | None
    ) -> ZeroInflatedNegativeBinomialDecoder:
        network = self.build_network(genes, latent_dim, statistics)
        return ZeroInflatedNegativeBinomialDecoder(network, self.build_dispersion(genes, statistics))
