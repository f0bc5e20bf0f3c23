"""The normal decoder of normalised values: only to compare with published systems, since it generates no counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import softplus

from latdiff_core.errors import LatdiffError, require_shape
from latdiff_core.interfaces import CountDistribution, Covariates, Decoder, DecoderConfig, GeneStatistics, Sizes
from latdiff_counts.count_network import HiddenConfig
from latdiff_counts.fast_parameter import FastParameter
from latdiff_counts.gene_head import GeneHead
from latdiff_counts.layers import hidden_layers

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TARGET = 1e4
LEAST_DEVIATION = 0.1
"""A gene that is zero in every cell would otherwise take the standard deviation to 0 and the density to infinity."""
INITIAL_DEVIATION = 1.0


class Gaussian(CountDistribution):
    """A normal distribution over log1p of counts per 10,000; it generates no counts.

    Means, variances and samples are of the normalised values, and samples can be negative, as those of published
    systems are. Likelihoods take raw counts and are the density of the normalised values, without the Jacobian of the
    normalisation: they cannot be compared with the log-probabilities of counts.

    Parameters
    ----------
    loc
        Means, (batch, genes).
    scale
        Standard deviations, (genes,).
    library
        Total counts of each cell, by which counts are normalised, (batch,).
    """

    def __init__(self, loc: Tensor, scale: Tensor, library: Tensor) -> None:
        super().__init__(batch_shape=loc.shape, validate_args=False)
        self.normal = Normal(loc, scale, validate_args=False)
        self.per_count = (TARGET / library.to(loc.dtype)).unsqueeze(-1)  # (batch, 1)

    @property
    def mean(self) -> Tensor:
        return self.normal.mean

    @property
    def variance(self) -> Tensor:
        return self.normal.variance

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the normalised values of raw counts, (batch, genes) to (batch, genes)."""
        return self.normal.log_prob(torch.log1p(value.to(self.per_count.dtype) * self.per_count))

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw normalised values, ``(*sample_shape, batch, genes)``."""
        with torch.no_grad():
            shape = (*sample_shape, *self.batch_shape)
            return torch.normal(self.normal.loc.expand(shape), self.normal.scale.expand(shape), generator=generator)

    def sample_csr(self, generator: torch.Generator | None = None) -> csr_matrix:
        """Draw normalised values as a scipy CSR matrix of float32, (batch, genes), in which no value is zero."""
        from scipy.sparse import csr_matrix

        values = self.sample(generator=generator)
        if not bool(values.isfinite().all()):
            raise LatdiffError("sampled values are not finite; the model is not usable, fit it again")
        return csr_matrix(values.float().cpu().numpy())


class GaussianDecoder(Decoder):
    """A mirrored MLP to the mean of each gene's log1p of counts per 10,000; it generates no counts.

    What published systems that model normalised values do, for comparison with them. The means start at the data's
    mean profile; the standard deviations, one per gene, are softplus above a least one, and learn faster than the
    network.
    """

    generates: ClassVar[Literal["counts", "log_normalised"]] = "log_normalised"

    def __init__(
        self, *, sizes: Sizes, hidden: Sequence[int], dropout: float, rate: float, statistics: GeneStatistics | None
    ) -> None:
        super().__init__()
        self.layers = hidden_layers(sizes.latent_dim + sizes.nuisance, hidden, dropout)
        self.loc = GeneHead(hidden[-1], sizes.genes)
        inverse_softplus = math.log(math.expm1(INITIAL_DEVIATION - LEAST_DEVIATION))
        self.deviation = FastParameter(torch.full((sizes.genes,), inverse_softplus), rate)
        if statistics is not None:
            with torch.no_grad():
                self.loc.bias.copy_((TARGET * statistics.fraction).log1p())

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> Gaussian:
        require_shape("library", library, (len(z),))
        dtype = self.loc.weight.dtype
        loc = self.loc(self.layers(torch.cat([z.to(dtype), covariates.nuisance.to(dtype)], dim=-1)))
        scale = LEAST_DEVIATION + softplus(self.deviation())
        return Gaussian(loc, scale, library)


class GaussianDecoderConfig(HiddenConfig, DecoderConfig):
    """Normally distributed log1p of counts per 10,000, to compare with published systems; it generates no counts."""

    kind: Literal["gaussian"] = "gaussian"
    deviation_rate: PositiveFloat = 10.0
    """How many times faster than the network the standard deviations learn."""

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> GaussianDecoder:
        return GaussianDecoder(
            sizes=sizes, hidden=self.hidden, dropout=self.dropout, rate=self.deviation_rate, statistics=statistics
        )
