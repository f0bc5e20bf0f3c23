"""The negative binomial decoder: the default for UMI counts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import CountDistribution, Decoder, DecoderConfig, GeneStatistics
from latdiff_counts.count_network import CountNetwork, CountNetworkConfig, GeneDispersion
from latdiff_counts.likelihood import nb_log_excess, nb_log_prob, nb_log_zero, sample_nb


class NegativeBinomial(CountDistribution):
    """Negative binomial by mean and inverse dispersion: Var = mu + mu^2 / theta.

    Parameters
    ----------
    log_mu
        Log of the mean, (batch, genes).
    log_theta
        Log of the inverse dispersion, (genes,) or (batch, genes).
    """

    def __init__(self, log_mu: Tensor, log_theta: Tensor) -> None:
        super().__init__(batch_shape=log_mu.shape, validate_args=False)
        self.log_mu = log_mu
        self.log_theta = log_theta

    @property
    def mean(self) -> Tensor:
        return self.log_mu.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean**2 * (-self.log_theta).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        return nb_log_prob(value.to(self.log_mu.dtype), self.log_mu, self.log_theta)

    def log_likelihood(self, counts: CountBatch) -> Tensor:
        """The zeros in closed form, and the rest of the formula only at the non-zeros."""
        zeros = nb_log_zero(self.log_mu, self.log_theta).sum(-1)
        log_theta = self.log_theta.expand_as(self.log_mu)[counts.rows, counts.indices]
        values = counts.values.to(self.log_mu.dtype)
        return zeros + counts.sum_per_cell(nb_log_excess(values, self.log_mu[counts.rows, counts.indices], log_theta))

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        with torch.no_grad():
            mu = self.mean.expand(*sample_shape, *self.batch_shape)
            return sample_nb(mu, self.log_theta.exp(), generator)


class NegativeBinomialDecoder(Decoder):
    """A mirrored MLP to the mean of each gene, with one dispersion per gene."""

    def __init__(self, network: CountNetwork, dispersion: GeneDispersion) -> None:
        super().__init__()
        self.network = network
        self.dispersion = dispersion

    def forward(self, z: Tensor, library: Tensor) -> NegativeBinomial:
        log_mu, _ = self.network(z, library)
        return NegativeBinomial(log_mu, self.dispersion())


class NegativeBinomialDecoderConfig(CountNetworkConfig, DecoderConfig):
    """Negative binomial counts with one dispersion per gene."""

    kind: Literal["negative_binomial"] = "negative_binomial"

    def build(self, *, genes: int, latent_dim: int, statistics: GeneStatistics | None) -> NegativeBinomialDecoder:
        network = self.build_network(genes, latent_dim, statistics)
        return NegativeBinomialDecoder(network, self.build_dispersion(genes, statistics))
