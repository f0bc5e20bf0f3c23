"""Guidance by each attribute on its own, for combinations that were never seen together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.errors import ConfigError, known
from latdiff_core.interfaces import BranchedDenoise, Denoise, Fraction, Guidance, GuidanceConfig


class CompositionalGuidance(Guidance):
    """unconditional + sum_i w_i (attribute i alone - unconditional) (Liu et al. 2022, arXiv:2206.01714, Eq. 11).

    CFGen guides cells by several attributes in this way (Palma et al. 2025, arXiv:2407.11734). It is a product of
    experts, p(z) prod_i [p(z | a_i) / p(z)]^w_i, and weights of 1 assume that the attributes act independently given
    the cell: then it is p(z | a_1, a_2, …). No branch sees two attributes, so any combination can be asked for,
    seen or not; how right it is depends on that assumption alone. Where training lacked one of only a few
    combinations, its attributes were not independent, and cells generated for that combination stop short of it.

    In training, all attributes of a cell are hidden with probability ``drop``, and all but one, each attribute as
    often, with probability ``alone``; otherwise none is.

    Parameters
    ----------
    weights
        One per attribute, in the order of their tokens.
    """

    def __init__(self, *, weights: Sequence[float], drop: float, alone: float) -> None:
        self.attributes = len(weights)
        self.drop = drop
        self.alone = alone
        self.coefficients = torch.tensor([1 - sum(weights), *weights], dtype=torch.float64)  # (1 + attributes,)

    def keep_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        draw = torch.rand(batch, 1, generator=generator)
        chosen = torch.randint(max(self.attributes, 1), (batch, 1), generator=generator)
        is_chosen = torch.arange(self.attributes) == chosen  # (batch, attributes)
        return (draw >= self.drop) & (is_chosen | (draw >= self.drop + self.alone))

    def guided(self, denoise: BranchedDenoise) -> Denoise:
        branches = torch.eye(1 + self.attributes, dtype=torch.bool)[:, 1:]  # (1 + attributes, attributes)
        needed = self.coefficients != 0  # one attribute of weight 1 needs no unconditional branch
        keep, coefficients = branches[needed], self.coefficients[needed]

        def guided_denoise(z_t: Tensor, t: Tensor) -> Tensor:
            clean = denoise(z_t, t, keep)  # (branches, batch, dim)
            return torch.tensordot(moved(coefficients, clean.device).to(clean.dtype), clean, dims=1)

        return guided_denoise


class CompositionalGuidanceConfig(GuidanceConfig):
    """Each attribute's own effect, weighted and added up, for combinations that were never seen together."""

    of_training = ("drop", "alone")
    kind: Literal["compositional"] = "compositional"
    weights: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Guidance weight by attribute name; an attribute that is not named gets ``scale``."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """Guidance weight of every other attribute; 1 assumes that attributes act independently given the cell."""
    drop: Fraction = 0.1
    """Share of cells whose attributes are all hidden in training."""
    alone: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of cells that keep only one attribute in training, each attribute as often."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.drop + self.alone > 1:
            raise ValueError(f"drop ({self.drop}) and alone ({self.alone}) must not add up to more than 1")
        return self

    def build(self, *, attributes: Sequence[str]) -> CompositionalGuidance:
        for name in self.weights:
            if name not in attributes:
                raise ConfigError(
                    f"weights names the attribute {name!r}, which is not a condition; {known(attributes, name)}"
                )
        weights = [self.weights.get(name, self.scale) for name in attributes]
        return CompositionalGuidance(weights=weights, drop=self.drop, alone=self.alone)
