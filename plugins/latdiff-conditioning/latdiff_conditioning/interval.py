"""Classifier-free guidance at middle noise levels only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latdiff_conditioning.branches import conditional_and_unconditional, draw_keep_mask, plain
from latdiff_core.interfaces import BranchedDenoise, Denoise, Fraction, Guidance, GuidanceConfig


class IntervalGuidance(Guidance):
    """Classifier-free guidance for times in [low, high], none elsewhere (Kynkäänniemi et al. 2024, arXiv:2404.07724).

    At much noise guidance costs diversity, at little noise it does nothing. The interval is in the time of the
    schedule, where the paper's is in the noise level. Training is that of ``classifier_free``. An evaluation in
    which no cell is inside costs no second branch.
    """

    def __init__(self, *, attributes: int, drop: float, scale: float, low: float, high: float) -> None:
        self.attributes = attributes
        self.drop = drop
        self.scale = scale
        self.low = low
        self.high = high

    def keep_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        return draw_keep_mask(batch, self.attributes, self.drop, generator)

    def guided(self, denoise: BranchedDenoise) -> Denoise:
        unguided = plain(denoise, self.attributes)
        if self.scale == 1.0 or self.attributes == 0:
            return unguided
        both = conditional_and_unconditional(self.attributes)

        def guided_denoise(z_t: Tensor, t: Tensor) -> Tensor:
            inside = (t >= self.low) & (t <= self.high)  # (batch,)
            if not inside.any():
                return unguided(z_t, t)
            conditional, unconditional = denoise(z_t, t, both)
            guided = torch.lerp(unconditional, conditional, self.scale)
            return torch.where(inside.unsqueeze(-1), guided, conditional)

        return guided_denoise


class IntervalGuidanceConfig(GuidanceConfig):
    """Conditions dropped in training and stressed in sampling at middle noise levels."""

    of_training = ("drop",)
    kind: Literal["interval"] = "interval"
    drop: Fraction = 0.1
    """Probability of hiding each attribute of a cell in training and, with several, of hiding all of them together."""
    scale: Annotated[float, Field(ge=0)] = 1.5
    """Guidance scale inside the interval; 1 is the plain conditional model everywhere."""
    low: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Least time with guidance; 0 is data."""
    high: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Greatest time with guidance; 1 is noise."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def build(self, *, attributes: Sequence[str]) -> IntervalGuidance:
        return IntervalGuidance(
            attributes=len(attributes), drop=self.drop, scale=self.scale, low=self.low, high=self.high
        )
