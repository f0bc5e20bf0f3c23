"""Encoder: from counts to a distribution over the latent."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces.component import ComponentConfig
from latdiff_core.interfaces.covariates import Covariates, Sizes
from latdiff_core.interfaces.statistics import GeneStatistics


class Encoder(nn.Module, ABC):
    """Maps raw counts to the approximate posterior q(z | x, nuisance)."""

    @abstractmethod
    def forward(self, counts: CountBatch, covariates: Covariates) -> Normal:
        """Return independent normals over the latent, loc and scale (batch, latent), scale finite and > 0.

        The encoder chooses how it looks at the counts (log1p of counts per 10k, tokens, …); raw counts
        must not reach a linear layer, since a handful of genes carries most of their variance. It is told
        the nuisance, so that the latent need not hold it; the condition is for decoders.
        """


class EncoderConfig(ComponentConfig, ABC):
    """Base config of encoders."""

    interface = "encoder"

    @abstractmethod
    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> Encoder:
        """Make the encoder; ``statistics`` is None when weights will be loaded into it."""
