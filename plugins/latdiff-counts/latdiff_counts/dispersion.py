"""The inverse dispersion of NB-family decoders: per gene, per condition or per cell, and by depth."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Covariates, GeneStatistics, Sizes
from latdiff_counts.fast_parameter import FastParameter
from latdiff_counts.gene_head import GeneHead

DispersionOf = Literal["gene", "condition", "cell"]
LOG_THETA_LIMITS = (-12.0, 24.0)
"""Of what decoders make: below it, single counts are beyond all that can be counted."""
THETA_STD = 1.0
"""Of genes' offsets of log theta, in their prior. Without it one of a gene of worm neurons ended at -4, and single
cells had 39,095 counts of it where real ones have at most 137."""
SLOPE_STD = 1.0
"""Of the slopes by depth. Those of genes that few cells have are anything otherwise: with -11, the inverse dispersion
of the deepest of 1,000 PBMCs is e^-23 times that of an average one."""


class Dispersion(nn.Module):
    """log theta: the data's moments, plus a learned offset of each gene, and of its condition or its cell.

    The offsets of gene and condition learn ``rate`` times faster than the network. ``condition`` is linear in the
    condition's coding, so that an unknown condition has the gene's own dispersion; ``cell`` is linear in the decoder's
    last hidden layer, as large as the layer to the means. All three start at the moments.

    With ``depth``, log theta of each gene also changes linearly with the log library size, from a slope of 0. There
    the variance is mu + mu^2 / theta whatever the depth; at slope 1 it grows like mu, as where molecules are counted
    more than once. On worm neurons, whose shallow cells repeat genes and whose deep ones do not, cells otherwise came
    out with 15 % too many genes at 100 counts and 15 % too few at 1,000.

    A gene's own offset and slope have normal priors around 0: what few cells have seen stays near the moments.
    """

    mean_log_library: Tensor

    def __init__(
        self,
        *,
        of: DispersionOf,
        sizes: Sizes,
        hidden: int,
        rate: float,
        depth: bool,
        statistics: GeneStatistics | None,
    ) -> None:
        super().__init__()
        if of == "condition" and sizes.condition == 0:
            raise ConfigError("dispersion: condition needs a model with conditions; add one, or take gene or cell")
        start = torch.zeros(sizes.genes) if statistics is None else statistics.theta.log()
        self.by_gene = FastParameter(start, rate, THETA_STD)
        offsets = torch.zeros(sizes.condition, sizes.genes)
        self.by_condition = FastParameter(offsets, rate) if of == "condition" else None
        self.by_depth = FastParameter(torch.zeros(sizes.genes), rate, SLOPE_STD) if depth else None
        self.register_buffer("mean_log_library", torch.tensor(0.0 if statistics is None else statistics.log_library))
        self.by_cell = GeneHead(hidden, sizes.genes, bias=False) if of == "cell" else None
        if self.by_cell is not None:
            nn.init.zeros_(self.by_cell.weight)

    @property
    def heads(self) -> tuple[Tensor, ...]:
        """The weights from the decoder's last hidden layer, if there are any, for ``CountNetwork.log_prior``."""
        return () if self.by_cell is None else (self.by_cell.weight,)

    def log_prior(self) -> Tensor:
        """Log density of genes' dispersions and of their slopes by depth, up to a constant."""
        by_gene = self.by_gene.log_prior()
        return by_gene if self.by_depth is None else by_gene + self.by_depth.log_prior()

    def forward(self, hidden: Tensor, library: Tensor, covariates: Covariates) -> Tensor:
        """log theta in float32 or better, (genes,), or (batch, genes) when it is not per gene alone."""
        log_theta = self.by_gene()
        if self.by_condition is not None:
            with torch.autocast(log_theta.device.type, enabled=False):  # which would round log theta
                log_theta = log_theta + covariates.condition.to(log_theta.dtype) @ self.by_condition()  # (batch, genes)
        if self.by_depth is not None:
            depth = library.to(log_theta.dtype).log() - self.mean_log_library.to(log_theta.dtype)
            log_theta = log_theta + depth.unsqueeze(-1) * self.by_depth()  # (batch, genes)
        if self.by_cell is not None:
            log_theta = log_theta + self.by_cell(hidden)  # (batch, genes)
        return log_theta.clamp(*LOG_THETA_LIMITS)
