"""The generalized Poisson decoder: a variance proportional to the mean, with a factor learned for each gene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from latdiff_core.counts import CountBatch
from latdiff_core.errors import require_shape
from latdiff_core.interfaces import CountDistribution, Covariates, Decoder, DecoderConfig, GeneStatistics, Sizes

LARGEST_LAMBDA = 0.9
INITIAL_LAMBDA = 0.1
"""Training starts near the Poisson distribution, where lambda still has a gradient."""


class GeneralizedPoisson(CountDistribution):
    """Generalized Poisson by mean and lambda: Var = mu / (1 - lambda)^2.

    p(x) = theta (theta + lambda x)^(x - 1) exp(-theta - lambda x) / x! with theta = mu (1 - lambda) (Consul & Jain
    1973, Technometrics 15:791; for RNA-seq Srivastava & Chen 2010, Nucleic Acids Res. 38:e170). It counts everybody
    who ever lived where Poisson(theta) founders and all their descendants have Poisson(lambda) children each: in
    RNA-seq, reads that bring further reads.

    Parameters
    ----------
    log_mu
        Log of the mean, (batch, genes).
    log_lambda
        Log of lambda, (genes,) or (batch, genes), where 0 < lambda < 1; towards 0 it is the Poisson distribution.
    """

    def __init__(self, log_mu: Tensor, log_lambda: Tensor) -> None:
        super().__init__(batch_shape=log_mu.shape, validate_args=False)
        self.log_mu = log_mu
        self.log_lambda = log_lambda.expand_as(log_mu)
        self.theta = log_mu.exp() * (1 - log_lambda.exp())  # expected founders, (batch, genes)

    @property
    def mean(self) -> Tensor:
        return self.log_mu.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean / (1 - self.log_lambda.exp()) ** 2

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.log_mu.dtype)
        excess = log_excess(value.clamp(min=1), self.log_mu, self.log_lambda)
        return torch.where(value > 0, excess, 0.0) - self.theta

    def log_likelihood(self, counts: CountBatch) -> Tensor:
        """Every gene as a zero, log p(0) = -theta, and at the non-zeros what they add."""
        log_mu, log_lambda = (p[counts.rows, counts.indices] for p in (self.log_mu, self.log_lambda))
        excess = log_excess(counts.values.to(log_mu.dtype), log_mu, log_lambda)
        return counts.sum_per_cell(excess) - self.theta.sum(-1)

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the founders, then generation after generation until every family has died out."""
        with torch.no_grad():
            shape = (*sample_shape, *self.batch_shape)
            counts = torch.poisson(self.theta.expand(shape), generator=generator).flatten()
            children = self.log_lambda.exp().expand(shape).flatten()
            families = counts.nonzero().squeeze(-1)  # those with somebody alive
            alive = counts[families]
            while len(families):
                alive = torch.poisson(children[families] * alive, generator=generator)
                counts[families] += alive
                families, alive = families[alive > 0], alive[alive > 0]
            return counts.view(shape)


def log_excess(x: Tensor, log_mu: Tensor, log_lambda: Tensor) -> Tensor:
    """log p(x) - log p(0) = log theta + (x - 1) log(theta + lambda x) - lambda x - log x! at counts x > 0.

    (theta + lambda x)^(x - 1) and x! are both taken relative to x^(x - 1): their logs are far larger than that of
    their quotient, and their difference would cost float32 its digits.
    """
    log_theta, log_x = log_mu + torch.log1p(-log_lambda.exp()), x.log()
    log_ratio = torch.logaddexp(log_theta - log_x, log_lambda)  # log of theta / x + lambda
    return log_theta + (x - 1) * log_ratio - log_lambda.exp() * x + ((x - 1) * log_x - torch.lgamma(x + 1))


class GeneralizedPoissonDecoder(Decoder):
    """An MLP from latent and nuisance to log mu = log softmax(logits) + log library, and one lambda per gene.

    lambda = 0.9 sigmoid(rate x offset + start); the optimiser sees the offset, so that under Adam lambda learns
    ``rate`` times faster than the network.
    """

    def __init__(self, *, sizes: Sizes, hidden: Sequence[int], rate: float, statistics: GeneStatistics | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = sizes.latent_dim + sizes.nuisance
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.LayerNorm(next_width), nn.GELU()]
            width = next_width
        self.layers = nn.Sequential(*layers)
        self.logits = nn.Linear(width, sizes.genes)
        self.offset = nn.Parameter(torch.zeros(sizes.genes))
        self.rate = rate
        if statistics is not None:  # training starts at the mean profile of the data
            with torch.no_grad():
                self.logits.bias.copy_(statistics.fraction.log())

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> GeneralizedPoisson:
        require_shape("library", library, (len(z),))
        inputs = torch.cat([z, covariates.nuisance], dim=-1).to(self.logits.weight.dtype)
        logits = self.logits(self.layers(inputs))  # (batch, genes)
        dtype = torch.promote_types(self.logits.weight.dtype, torch.float32)
        log_mu = logits.to(dtype).log_softmax(-1) + library.to(dtype).log().unsqueeze(-1)
        start = math.log(INITIAL_LAMBDA / (LARGEST_LAMBDA - INITIAL_LAMBDA))
        log_lambda = math.log(LARGEST_LAMBDA) + logsigmoid(start + self.rate * self.offset.to(dtype))  # (genes,)
        return GeneralizedPoisson(log_mu, log_lambda)


class GeneralizedPoissonDecoderConfig(DecoderConfig):
    """Generalized Poisson counts: variance proportional to the mean, with a factor of each gene's own."""

    kind: Literal["generalized_poisson"] = "generalized_poisson"
    hidden: tuple[PositiveInt, ...] = Field(default=(128, 256), min_length=1)
    """Widths of the hidden layers, from the latent to the genes."""
    lambda_rate: PositiveFloat = 10.0
    """How many times faster than the network lambda learns."""

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> GeneralizedPoissonDecoder:
        return GeneralizedPoissonDecoder(sizes=sizes, hidden=self.hidden, rate=self.lambda_rate, statistics=statistics)
