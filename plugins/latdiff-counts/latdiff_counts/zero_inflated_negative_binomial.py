"""The zero-inflated negative binomial decoder: for counts with more zeros than an NB explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from latdiff_core.interfaces import Covariates, Decoder, DecoderConfig, GeneStatistics, Sizes
from latdiff_counts.count_network import CountNetwork, DispersedConfig
from latdiff_counts.dispersion import Dispersion
from latdiff_counts.gene_head import GeneHead
from latdiff_counts.likelihood import log_mix, nb_log_excess, nb_log_zero
from latdiff_counts.sampling import nb_from_uniform, sample_nb
from latdiff_counts.sparse_distribution import SparseCountDistribution

INITIAL_ZI_LOGIT = -3.0
"""Training starts at 5 % zero inflation: near the plain NB, where the gate still has a gradient."""
ZI_SPREAD = 2.5
"""How much more the logits of the gate vary than log expression does; ``weight_prior`` says how much that is. Held-out
cells, nats at 1, 2.5 and 5: kang_ifnb 1,024, 1,022 and 1,024; as reads 2,822, 2,772 and 2,765."""


class ZeroInflatedNegativeBinomial(SparseCountDistribution):
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
        super().__init__(log_mu, log_theta, zi_logits)

    @property
    def mean(self) -> Tensor:
        log_mu, _, zi_logits = self.parameters
        return log_mu.exp() * torch.sigmoid(-zi_logits)

    @property
    def variance(self) -> Tensor:
        log_mu, log_theta, zi_logits = self.parameters
        mu, pi = log_mu.exp(), torch.sigmoid(zi_logits)
        return (1 - pi) * mu * (1 + mu * ((-log_theta).exp() + pi))

    @staticmethod
    def log_zero(log_mu: Tensor, log_theta: Tensor, zi_logits: Tensor) -> Tensor:
        return log_mix(zi_logits, nb_log_zero(log_mu, log_theta), log_mu.new_zeros(1))

    @staticmethod
    def log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor, zi_logits: Tensor) -> Tensor:
        # log p(0) - log (1 - pi) NB(0)
        inflation = torch.logaddexp(zi_logits - nb_log_zero(log_mu, log_theta), torch.zeros_like(log_mu))
        return nb_log_excess(x, log_mu, log_theta) - inflation

    @staticmethod
    def draw(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        log_mu, log_theta, zi_logits = parameters
        counts = sample_nb(log_mu.exp(), log_theta.exp(), generator)
        return counts * torch.bernoulli(torch.sigmoid(-zi_logits), generator=generator)

    @staticmethod
    def draw_from_uniform(uniform: Tensor, parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        log_mu, log_theta, zi_logits = parameters
        return nb_from_uniform(uniform / torch.sigmoid(-zi_logits), log_mu, log_theta, generator)


class ZeroInflatedNegativeBinomialDecoder(Decoder):
    """A mirrored MLP to mean and zero inflation of each gene and cell, and the dispersion.

    The expected counts of a cell, zeros of the gate included, add up to its library: the means of the NB parts are
    softmax x library divided by the share of it that passes the gate. (scvi-tools' decoder gives all of the library to
    the NB parts: of cells with much inflation it generates fewer counts than it is asked for.)
    """

    def __init__(self, network: CountNetwork, dispersion: Dispersion) -> None:
        super().__init__()
        self.network = network
        self.dispersion = dispersion
        self.zi_logits = GeneHead(network.logits.in_features, network.logits.out_features)
        nn.init.zeros_(self.zi_logits.weight)
        nn.init.constant_(self.zi_logits.bias, INITIAL_ZI_LOGIT)

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> ZeroInflatedNegativeBinomial:
        log_mu, hidden = self.network(z, library, covariates)
        log_theta = self.dispersion(hidden, library, covariates)
        zi_logits = self.zi_logits(hidden)
        log_passed = (log_mu - softplus(zi_logits)).logsumexp(-1, keepdim=True)  # of the library, (batch, 1)
        log_mu = log_mu + library.to(log_mu.dtype).log().unsqueeze(-1) - log_passed
        return ZeroInflatedNegativeBinomial(log_mu, log_theta, zi_logits)

    def log_prior(self) -> Tensor:
        return (
            self.network.log_prior(self.zi_logits.weight / ZI_SPREAD, *self.dispersion.heads)
            + self.dispersion.log_prior()
        )


class ZeroInflatedNegativeBinomialDecoderConfig(DispersedConfig, DecoderConfig):
    """Negative binomial counts with additional zeros."""

    zero_inflated = True
    kind: Literal["zero_inflated_negative_binomial"] = "zero_inflated_negative_binomial"

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> ZeroInflatedNegativeBinomialDecoder:
        network = self.build_network(sizes, statistics)
        return ZeroInflatedNegativeBinomialDecoder(network, self.build_dispersion(sizes, statistics))
