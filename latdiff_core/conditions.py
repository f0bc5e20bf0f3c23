"""Condition values of a batch of cells, and their embedding with learned nulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latdiff_core.schema import Attribute, CategoricalAttribute, ContinuousAttribute


@dataclass(frozen=True)
class Conditions:
    """Condition values, one tensor per attribute.

    Attributes
    ----------
    values
        Per attribute (batch,): category codes in int64, -1 where missing; or numbers in float32, NaN where missing.
    cells
        Number of cells; it stands by itself because a model may have no attributes.
    """

    values: tuple[Tensor, ...]
    cells: int

    def __len__(self) -> int:
        return self.cells

    def __getitem__(self, index: Tensor | slice) -> Conditions:
        """Select cells by a slice or an index tensor."""
        chosen = torch.arange(self.cells)[index]
        return Conditions(tuple(v[chosen] for v in self.values), len(chosen))

    def repeat(self, times: int) -> Conditions:
        """The whole batch ``times`` over, one copy after the other."""
        return Conditions(tuple(v.repeat(times) for v in self.values), times * self.cells)

    def present(self) -> Tensor:
        """Which attributes of which cells are known, (batch, attributes), bool."""
        known = [v >= 0 if v.dtype == torch.int64 else v.isfinite() for v in self.values]
        return torch.stack(known, -1) if known else torch.ones(self.cells, 0, dtype=torch.bool)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Conditions:
        """Move to a device."""
        return Conditions(tuple(v.to(device, non_blocking=non_blocking) for v in self.values), self.cells)


class CategoricalEmbedding(nn.Module):
    """One learned vector per category."""

    def __init__(self, categories: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(categories, width)

    def forward(self, codes: Tensor) -> Tensor:
        """(batch,) codes, of which missing ones are negative, to (batch, width)."""
        vectors: Tensor = self.table(codes.clamp(min=0))
        return vectors


class ContinuousEmbedding(nn.Module):
    """A small network on the standardised value."""

    def __init__(self, mean: float, std: float, width: int) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.net = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, value: Tensor) -> Tensor:
        """(batch,) values, of which missing ones are NaN, to (batch, width)."""
        standardised = (value.nan_to_num(self.mean) - self.mean) / self.std
        vectors: Tensor = self.net(standardised.unsqueeze(-1).to(next(self.parameters()).dtype))
        return vectors


class ConditionEmbedding(nn.Module):
    """Turns condition values into one token per attribute.

    Every attribute has its own learned null vector, which stands for "dropped" and for "missing" alike:
    one meaning of unconditional, never confused with a real value such as dose 0.
    """

    def __init__(self, attributes: Sequence[Attribute], width: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(_embedding(a, width) for a in attributes)
        self.null = nn.Parameter(torch.randn(len(attributes), width))

    def forward(self, conditions: Conditions, keep: Tensor | None = None) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        conditions
            Values of every attribute.
        keep
            Which attributes of which cells may be seen, (batch, attributes), bool; all when None.

        Returns
        -------
        Tensor
            Condition tokens, (batch, attributes, width).
        """
        if not self.embeddings:
            return self.null.new_zeros(len(conditions), 0, self.null.shape[1])
        pairs = zip(self.embeddings, conditions.values, strict=True)
        tokens = torch.stack([embed(value) for embed, value in pairs], dim=1)  # (batch, attributes, width)
        seen = conditions.present() if keep is None else conditions.present() & keep
        return torch.where(seen.unsqueeze(-1), tokens, self.null)


def _embedding(attribute: Attribute, width: int) -> nn.Module:
    match attribute:
        case CategoricalAttribute():
            return CategoricalEmbedding(len(attribute.categories), width)
        case ContinuousAttribute():
            return ContinuousEmbedding(attribute.mean, attribute.std, width)
