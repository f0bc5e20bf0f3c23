"""The negative binomial decoder: the default for UMI counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from latdiff_core.interfaces import Covariates, Decoder, DecoderConfig, GeneStatistics, Sizes
from latdiff_counts.count_network import CountNetwork, DispersedConfig
from latdiff_counts.dispersion import Dispersion
from latdiff_counts.likelihood import nb_log_excess, nb_log_zero
from latdiff_counts.sampling import nb_from_uniform, sample_nb
from latdiff_counts.sparse_distribution import SparseCountDistribution


class NegativeBinomial(SparseCountDistribution):
    """Negative binomial by mean and inverse dispersion: Var = mu + mu^2 / theta.

    Parameters
    ----------
    log_mu
        Log of the mean, (batch, genes).
    log_theta
        Log of the inverse dispersion, (genes,) or (batch, genes).
    """

    def __init__(self, log_mu: Tensor, log_theta: Tensor) -> None:
        super().__init__(log_mu, log_theta)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0].exp()

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean**2 * (-self.parameters[1]).exp()

    @staticmethod
    def log_zero(log_mu: Tensor, log_theta: Tensor) -> Tensor:
        return nb_log_zero(log_mu, log_theta)

    @staticmethod
    def log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
        return nb_log_excess(x, log_mu, log_theta)

    @staticmethod
    def draw(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        log_mu, log_theta = parameters
        return sample_nb(log_mu.exp(), log_theta.exp(), generator)

    @staticmethod
    def draw_from_uniform(uniform: Tensor, parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        return nb_from_uniform(uniform, *parameters, generator)


class NegativeBinomialDecoder(Decoder):
    """A mirrored MLP to the mean of each gene, and its dispersion."""

    def __init__(self, network: CountNetwork, dispersion: Dispersion) -> None:
        super().__init__()
        self.network = network
        self.dispersion = dispersion

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> NegativeBinomial:
        log_mu, hidden = self.network(z, library, covariates)
        return NegativeBinomial(log_mu, self.dispersion(hidden, library, covariates))

    def log_prior(self) -> Tensor:
        return self.network.log_prior(*self.dispersion.heads) + self.dispersion.log_prior()


class NegativeBinomialDecoderConfig(DispersedConfig, DecoderConfig):
    """Negative binomial counts."""

    kind: Literal["negative_binomial"] = "negative_binomial"

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> NegativeBinomialDecoder:
        network = self.build_network(sizes, statistics)
        return NegativeBinomialDecoder(network, self.build_dispersion(sizes, statistics))
