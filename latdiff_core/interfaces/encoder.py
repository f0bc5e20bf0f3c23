"""Encoder: from counts to a distribution over the latent."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces.component import ComponentConfig


class Encoder(nn.Module, ABC):
    """Maps raw counts to the approximate posterior q(z | x)."""

    @abstractmethod
    def forward(self, counts: CountBatch) -> Normal:
        """Return independent normals over the latent, loc and scale (batch, latent), scale finite and > 0.

        The encoder chooses how it looks at the counts (log1p of counts per 10k, tokens, …); raw counts
        must not reach a linear layer, since a handful of genes carries most of their variance.
        """


class EncoderConfig(ComponentConfig, ABC):
    """Base config of encoders."""

    interface = "encoder"

    @abstractmethod
    def build(self, *, genes: int, latent_dim: int) -> Encoder:
        """Make the encoder for ``genes`` inputs and ``latent_dim`` outputs."""
