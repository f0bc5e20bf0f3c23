"""Attribute values of a batch of cells, and the embedding of conditions with learned nulls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latdiff_core.device import moved
from latdiff_core.interfaces import Covariates
from latdiff_core.schema import Attribute, CategoricalAttribute, ContinuousAttribute, DataSchema, VectorAttribute


@dataclass(frozen=True)
class Conditions:
    """Attribute values, one tensor per attribute.

    Attributes
    ----------
    values
        Per attribute: category codes (batch,) in int64, -1 where missing; or numbers (batch,), or vectors
        (batch, numbers), in float32, NaN where missing.
    cells
        Number of cells; it stands by itself because a model may have no attributes.
    """

    values: tuple[Tensor, ...]
    cells: int

    def __len__(self) -> int:
        return self.cells

    def __getitem__(self, index: Tensor | slice) -> Conditions:
        """Select cells by a slice or an index tensor."""
        cells = len(range(self.cells)[index]) if isinstance(index, slice) else len(index)
        return Conditions(tuple(v[index] for v in self.values), cells)

    @classmethod
    def joined(cls, batches: Sequence[Conditions]) -> Conditions:
        """Several batches of the same attributes, one after the other."""
        values = zip(*(batch.values for batch in batches), strict=True)
        return cls(tuple(map(torch.cat, values)), sum(map(len, batches)))

    def repeat(self, times: int) -> Conditions:
        """The whole batch ``times`` over, one copy after the other."""
        return Conditions.joined([self] * times)

    def present(self) -> Tensor:
        """Which attributes of which cells are known, (batch, attributes), bool."""
        known = [v >= 0 if v.dtype == torch.int64 else v.view(len(v), -1).isfinite().all(-1) for v in self.values]
        return torch.stack(known, -1) if known else torch.ones(self.cells, 0, dtype=torch.bool)

    def to(self, device: torch.device | str) -> Conditions:
        """Move to a device."""
        return Conditions(tuple(moved(v, device) for v in self.values), self.cells)


def coded_width(attribute: Attribute) -> int:
    """Width of an attribute's coding."""
    match attribute:
        case CategoricalAttribute():
            return len(attribute.categories)
        case ContinuousAttribute():
            return 1
        case VectorAttribute():
            return len(attribute.mean)


def coded(values: Tensor, attribute: Attribute) -> Tensor:
    """Values of one attribute as numbers of which 0 is the average training cell, or unknown, (batch, width) float32.

    Categories are one-hot minus their shares, numbers are standardised.
    """
    match attribute:
        case CategoricalAttribute():
            one_hot = nn.functional.one_hot(values.clamp(min=0), len(attribute.categories))
            centred = one_hot - moved(torch.tensor(attribute.shares), values.device)
            return torch.where(values.unsqueeze(-1) >= 0, centred, 0.0)
        case ContinuousAttribute():
            numbers = ((values - attribute.mean) / attribute.std).unsqueeze(-1)
        case VectorAttribute():
            mean, std = (moved(torch.tensor(x), values.device) for x in (attribute.mean, attribute.std))
            numbers = (values - mean) / std
    return torch.where(numbers.isfinite().all(-1, keepdim=True), numbers, 0.0)


def indicated_width(attribute: Attribute) -> int:
    """Width of an attribute's coding with the indicator."""
    return coded_width(attribute) + (not isinstance(attribute, CategoricalAttribute))


def indicated(values: Tensor, attribute: Attribute) -> Tensor:
    """The same with an indicator, 1 where it is known: numbers can be those of the average cell, categories cannot."""
    numbers = coded(values, attribute)
    if isinstance(attribute, CategoricalAttribute):
        return numbers
    known = values.view(len(values), -1).isfinite().all(-1, keepdim=True)
    return torch.cat([numbers, known.to(numbers.dtype)], -1)


def side_by_side(
    code: Callable[[Tensor, Attribute], Tensor], conditions: Conditions, attributes: Sequence[Attribute]
) -> Tensor:
    """The codings of all attributes, (batch, sum of their widths) float32."""
    parts = [code(values, attribute) for values, attribute in zip(conditions.values, attributes, strict=True)]
    return torch.cat(parts, -1) if parts else torch.zeros(len(conditions), 0)


@dataclass(frozen=True)
class Annotations:
    """All that is said of a batch of cells.

    Attributes
    ----------
    conditions
        Values of the condition attributes.
    nuisance
        Values of the nuisance attributes.
    """

    conditions: Conditions
    nuisance: Conditions

    def __len__(self) -> int:
        return len(self.conditions)

    def __getitem__(self, index: Tensor | slice) -> Annotations:
        """Select cells by a slice or an index tensor."""
        return Annotations(self.conditions[index], self.nuisance[index])

    @classmethod
    def joined(cls, batches: Sequence[Annotations]) -> Annotations:
        """Several batches of the same attributes, one after the other."""
        conditions, nuisance = [b.conditions for b in batches], [b.nuisance for b in batches]
        return cls(Conditions.joined(conditions), Conditions.joined(nuisance))

    def together(self) -> Conditions:
        """The values of all attributes, those of conditions and then those of nuisance."""
        return Conditions((*self.conditions.values, *self.nuisance.values), len(self))

    def covariates(self, schema: DataSchema) -> Covariates:
        """The same as numbers, for stage 1."""
        return Covariates(
            nuisance=side_by_side(coded, self.nuisance, schema.nuisance),
            condition=side_by_side(indicated, self.conditions, schema.attributes),
        )


class CategoricalEmbedding(nn.Module):
    """One learned vector per category."""

    def __init__(self, categories: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(categories, width)

    def forward(self, codes: Tensor) -> Tensor:
        """(batch,) codes, of which missing ones are negative, to (batch, width)."""
        vectors: Tensor = self.table(codes.clamp(min=0))
        return vectors


class NumericEmbedding(nn.Module):
    """A small network on the standardised number or numbers."""

    def __init__(self, attribute: ContinuousAttribute | VectorAttribute, width: int) -> None:
        super().__init__()
        self.attribute = attribute
        self.net = nn.Sequential(nn.Linear(coded_width(attribute), width), nn.GELU(), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        """(batch,) or (batch, numbers), of which missing ones are NaN, to (batch, width)."""
        vectors: Tensor = self.net(coded(values, self.attribute).to(next(self.parameters()).dtype))
        return vectors


class ConditionEmbedding(nn.Module):
    """Turns condition values into one token per attribute.

    Every attribute has its own learned null vector, which stands for "dropped" and for "missing" alike:
    one meaning of unconditional, never confused with a real value such as dose 0.
    """

    def __init__(self, attributes: Sequence[Attribute], width: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(_embedding(a, width) for a in attributes)
        # Of an unconditional model none has a gradient, for which processes that train together would wait.
        self.null = nn.Parameter(torch.randn(len(attributes), width), requires_grad=bool(attributes))

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
        case ContinuousAttribute() | VectorAttribute():
            return NumericEmbedding(attribute, width)
