"""The Poisson decoder: for counts without overdispersion, and as the reference for how much of it there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from latdiff_core.interfaces import Covariates, Decoder, DecoderConfig, GeneStatistics, Sizes
from latdiff_counts.count_network import CountNetwork, CountNetworkConfig
from latdiff_counts.sampling import poisson_from_uniform
from latdiff_counts.sparse_distribution import SparseCountDistribution


class Poisson(SparseCountDistribution):
    """Poisson by the log of its mean: Var = mu, log p(x) = x log mu - mu - log x!.

    Parameters
    ----------
    log_mu
        Log of the mean, (batch, genes).
    """

    def __init__(self, log_mu: Tensor) -> None:
        super().__init__(log_mu)

    @property
    def mean(self) -> Tensor:
        return self.parameters[0].exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    @staticmethod
    def log_zero(log_mu: Tensor) -> Tensor:
        return -log_mu.exp()

    @staticmethod
    def log_excess(x: Tensor, log_mu: Tensor) -> Tensor:
        return x * log_mu - torch.lgamma(x + 1)

    @staticmethod
    def draw(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        (log_mu,) = parameters
        return torch.poisson(log_mu.exp(), generator=generator)

    @staticmethod
    def draw_from_uniform(uniform: Tensor, parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        return poisson_from_uniform(uniform, parameters[0].double().exp(), generator)


class PoissonDecoder(Decoder):
    """A mirrored MLP to the mean of each gene."""

    def __init__(self, network: CountNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> Poisson:
        log_mu, _ = self.network(z, library, covariates)
        return Poisson(log_mu)

    def log_prior(self) -> Tensor:
        return self.network.log_prior()


class PoissonDecoderConfig(CountNetworkConfig, DecoderConfig):
    """Poisson counts: no more variance than the mean."""

    kind: Literal["poisson"] = "poisson"

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> PoissonDecoder:
        return PoissonDecoder(self.build_network(sizes, statistics))
