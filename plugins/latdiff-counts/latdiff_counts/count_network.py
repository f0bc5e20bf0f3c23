"""What count decoders share: the fields of their configs, and the mirrored MLP to softmax x library."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from latdiff_core.errors import require_shape
from latdiff_core.interfaces import Config, Covariates, Fraction, GeneStatistics, Sizes
from latdiff_counts.dispersion import Dispersion, DispersionOf
from latdiff_counts.gene_head import GeneHead
from latdiff_counts.layers import hidden_layers


class HiddenConfig(Config):
    """The fields that all decoders share."""

    hidden: tuple[PositiveInt, ...] = Field(default=(128, 256), min_length=1)
    """Widths of the hidden layers, from the latent to the genes."""
    dropout: Fraction = 0.1
    """Dropout after each hidden layer."""


class CountNetworkConfig(HiddenConfig):
    """The fields that decoders of counts share."""

    conditional: bool = False
    """Whether the means are told the condition: cells are then of what was asked for even where their latent is
    ambiguous, and the latent need hold only what differs within a condition."""
    condition_dropout: Fraction = 0.0
    """Chance that the condition of a training cell is hidden from the means: the larger, the less the decoder makes
    every cell typical of what it is told. Dispersions by condition see it always. Without ``conditional`` it has no
    meaning."""
    weight_prior: PositiveFloat | None = None
    """Standard deviation that a gene's log expression is expected to have: that of a normal prior on the weights from
    the last hidden layer to the genes, times the root of their number; also that of its log dispersion where that is
    per cell, and, times 2.5, of the logit of its zero inflation. The smaller, the less a gene that is seldom counted
    departs from its mean profile, and the more a small data set's effects are shrunk; null for no prior."""

    def build_network(self, sizes: Sizes, statistics: GeneStatistics | None) -> CountNetwork:
        """Make the network to the means."""
        return CountNetwork(
            sizes=sizes,
            hidden=self.hidden,
            dropout=self.dropout,
            conditional=self.conditional,
            condition_dropout=self.condition_dropout,
            weight_prior=self.weight_prior,
            statistics=statistics,
        )


class DispersedConfig(CountNetworkConfig):
    """The fields that NB-family decoders share."""

    dispersion: DispersionOf = "gene"
    """One inverse dispersion per gene; per gene and condition; or per gene and cell, which is a second large layer."""
    dispersion_by_depth: bool = False
    """Whether each gene's dispersion may change with the library size of the cell."""
    dispersion_rate: PositiveFloat = 10.0
    """How many times faster than the network the dispersion learns."""

    def build_dispersion(self, sizes: Sizes, statistics: GeneStatistics | None) -> Dispersion:
        """Make the dispersions."""
        return Dispersion(
            of=self.dispersion,
            sizes=sizes,
            hidden=self.hidden[-1],
            rate=self.dispersion_rate,
            depth=self.dispersion_by_depth,
            statistics=statistics,
        )


class CountNetwork(nn.Module):
    """Latent and nuisance to hidden activations, and from there to log mu = log softmax(logits) + log library.

    If ``conditional``, the condition joins the nuisance; in training it is 0, as an unknown one is, for a share
    ``condition_dropout`` of the cells.

    The gene logits start at the data's mean profile, so that training begins at the right scale. With ``weight_prior``
    the weights to them have a normal prior of that standard deviation over sqrt(hidden[-1]), and start at its mean.
    Most genes are counted in few cells: without it Adam, whose steps are as large for them, fits their noise (pbmc3k,
    held-out cells: 2,786 nats per cell without, 2,768 with it).
    """

    def __init__(
        self,
        *,
        sizes: Sizes,
        hidden: Sequence[int],
        dropout: float,
        conditional: bool,
        condition_dropout: float,
        weight_prior: float | None,
        statistics: GeneStatistics | None,
    ) -> None:
        super().__init__()
        self.weight_prior = weight_prior
        self.conditional = conditional
        self.condition_dropout = condition_dropout
        told = sizes.nuisance + (sizes.condition if conditional else 0)
        self.layers = hidden_layers(sizes.latent_dim + told, hidden, dropout)
        self.logits = GeneHead(hidden[-1], sizes.genes)
        if weight_prior is not None:
            nn.init.zeros_(self.logits.weight)
        if statistics is not None:
            with torch.no_grad():
                self.logits.bias.copy_(statistics.fraction.log())

    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> tuple[Tensor, Tensor]:
        """Return log mu (batch, genes), in float32 or better, and the last hidden layer (batch, hidden[-1])."""
        require_shape("library", library, (len(z),))
        dtype = self.logits.weight.dtype
        told = [covariates.nuisance]
        if self.conditional:
            condition = covariates.condition
            if self.training and self.condition_dropout:
                shown = torch.rand(len(z), 1, device=condition.device) >= self.condition_dropout
                condition = condition * shown
            told.append(condition)
        hidden = self.layers(torch.cat([x.to(dtype) for x in (z, *told)], dim=-1))
        log_share = self.logits(hidden).log_softmax(-1)
        return log_share + library.to(log_share.dtype).log().unsqueeze(-1), hidden

    def log_prior(self, *heads: Tensor) -> Tensor:
        """Log-density of the weights to the genes in nats, up to a constant, a scalar; 0 without a prior.

        ``heads`` are the weights of further numbers per gene from the same layer, which fit noise as these do, each
        divided by how much more its numbers are expected to vary.
        """
        if self.weight_prior is None:
            return self.logits.weight.new_zeros(())
        variance = self.weight_prior**2 / self.logits.in_features
        squares = torch.stack([weights.float().square().sum() for weights in (self.logits.weight, *heads)])
        return -squares.sum() / (2 * variance)
