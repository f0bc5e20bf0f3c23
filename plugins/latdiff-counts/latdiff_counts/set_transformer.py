"""The set transformer encoder: attention over the genes that a cell expresses."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import scaled_dot_product_attention

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Encoder, EncoderConfig, Fraction, GeneStatistics, Sizes
from latdiff_counts.posterior import bounded_posterior

SHARPNESS = 6.0
"""How many times larger than usual the pooling's query weights start: attention logits of standard deviation 2."""


class AttentionBlock(nn.Module):
    """Queries attend to a context or to each other, then an MLP: x + attention, and that + MLP.

    The MAB of Lee et al. 2019 (Eq. 6 and 7, arXiv:1810.00825), with the norms in front of the queries and the MLP.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None, exists: Tensor | None = None) -> Tensor:
        """Map x (batch, queries, width) and context (batch, tokens, width), of which those exist (batch, tokens)."""
        queries = self.norm_attention(x)
        query = self.query(queries)
        key, value = self.key_value(queries if context is None else context).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, queries or tokens, ·)
            for part in (query, key, value)
        )
        mask = None if exists is None else exists[:, None, None]  # (batch, 1, 1, tokens)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


class ExpressedGenes(nn.Module):
    """One token per expressed gene: its embedding, scaled and shifted by a function of log1p of counts per 10,000.

    One more token, which carries log1p of the library size, gives an empty cell something to attend to. The shift is
    zero at the start: it is common to all genes, and would drown what differs between cells.
    """

    def __init__(self, genes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(genes + 1, width)  # the last is that of the library size
        self.value = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, 2 * width))
        nn.init.zeros_(self.value[-1].weight[width:])
        nn.init.zeros_(self.value[-1].bias[width:])

    def forward(self, counts: CountBatch) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width), padded to the longest cell, and which of them exist (batch, tokens)."""
        cells = torch.arange(len(counts), device=counts.rows.device)
        place = torch.arange(len(counts.rows), device=counts.rows.device) - counts.indptr[counts.rows]
        rows = torch.cat([cells, counts.rows])  # (batch + nonzeros,)
        columns = torch.cat([torch.zeros_like(cells), 1 + place])
        genes = torch.cat([torch.full_like(cells, counts.genes), counts.indices])
        expression = counts.log1p_values()
        values = torch.cat([counts.library.log1p(), expression]).unsqueeze(-1)  # (batch + nonzeros, 1)

        scale, shift = self.value(values.to(self.embedding.weight.dtype)).chunk(2, dim=-1)
        entries = self.embedding(genes) * (1 + scale) + shift  # (batch + nonzeros, width)
        longest = 1 + int(counts.indptr.diff().max())
        tokens = entries.new_zeros(len(counts), longest, entries.shape[-1]).index_put((rows, columns), entries)
        exists = torch.zeros(len(counts), longest, dtype=torch.bool, device=rows.device)
        exists[rows, columns] = torch.cat([torch.ones_like(cells, dtype=torch.bool), counts.values > 0])
        return tokens, exists


class SetTransformerEncoder(Encoder):
    """Learned queries attend to the expressed genes of a cell, whatever their order, and then to each other.

    The encoder of scLDM (Palla et al. 2025, arXiv:2511.02986), which is the pooling of the Set Transformer (PMA, Eq.
    11, then SAB, Eq. 8, Lee et al. 2019, arXiv:1810.00825) or a Perceiver (Jaegle et al. 2021, arXiv:2103.03206). The
    nuisance is added to the queries. Memory grows with the genes expressed in a batch's largest cell.

    An average over hundreds of genes is almost the same in every cell, and would take long to learn from. Hence sharp
    attention, small queries, and tokens without a norm at the start: on the demo data 20 % of the variance of the
    initial posterior means is between cells, without these 0.02 %.
    """

    def __init__(self, *, sizes: Sizes, width: int, queries: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.genes = ExpressedGenes(sizes.genes, width)
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.nuisance = nn.Parameter(torch.zeros(sizes.nuisance, width))
        self.pool = AttentionBlock(width, heads, dropout)
        with torch.no_grad():
            self.pool.query.weight *= SHARPNESS
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.mean = nn.Linear(queries * width, sizes.latent_dim)
        self.log_variance = nn.Linear(queries * width, sizes.latent_dim)

    def forward(self, counts: CountBatch, covariates: Covariates) -> Normal:
        tokens, exists = self.genes(counts)
        shift = covariates.nuisance.to(self.nuisance.dtype) @ self.nuisance  # (batch, width)
        x = self.pool(self.queries + shift.unsqueeze(1), tokens, exists)  # (batch, queries, width)
        for block in self.blocks:
            x = block(x)
        pooled = self.norm(x).flatten(1)  # (batch, queries * width)
        return bounded_posterior(self.mean(pooled), self.log_variance(pooled))


class SetTransformerEncoderConfig(EncoderConfig):
    """Attention over the genes that a cell expresses."""

    kind: Literal["set_transformer"] = "set_transformer"
    width: PositiveInt = 64
    """Width of the tokens."""
    queries: PositiveInt = 8
    """Number of learned queries that a cell is pooled to."""
    depth: PositiveInt = 2
    """Blocks of self-attention over the pooled queries."""
    heads: PositiveInt = 4
    """Attention heads; must divide the width."""
    dropout: Fraction = 0.1
    """Dropout after each attention and each MLP."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> SetTransformerEncoder:
        return SetTransformerEncoder(sizes=sizes, **self.model_dump(exclude={"kind"}))
