"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from latdiff_conditioning.branches import conditional_and_unconditional, draw_keep_mask, plain
from latdiff_core.interfaces import BranchedDenoise, Denoise, Fraction, Guidance, GuidanceConfig


class ClassifierFreeGuidance(Guidance):
    """Conditions dropped at random in training, extrapolated in sampling (Ho & Salimans 2022, arXiv:2207.12598, Eq. 6).

    In training each attribute of each cell is dropped with probability ``drop``; with several attributes, all of them
    together with the same probability, so that the unconditional branch is trained too. In sampling the result is
    unconditional + scale (conditional - unconditional); it is the same in every prediction, since each is an affine
    function of the clean latent. A scale of 1 is the plain conditional model and costs no second branch.
    """

    def __init__(self, *, attributes: int, drop: float, scale: float) -> None:
        self.attributes = attributes
        self.drop = drop
        self.scale = scale

    def keep_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        return draw_keep_mask(batch, self.attributes, self.drop, generator)

    def guided(self, denoise: BranchedDenoise) -> Denoise:
        if self.scale == 1.0 or self.attributes == 0:
            return plain(denoise, self.attributes)
        both = conditional_and_unconditional(self.attributes)

        def guided_denoise(z_t: Tensor, t: Tensor) -> Tensor:
            conditional, unconditional = denoise(z_t, t, both)
            return torch.lerp(unconditional, conditional, self.scale)

        return guided_denoise


class ClassifierFreeGuidanceConfig(GuidanceConfig):
    """Conditions dropped in training and stressed in sampling."""

    of_training = ("drop",)
    kind: Literal["classifier_free"] = "classifier_free"
    drop: Fraction = 0.1
    """Probability of hiding each attribute of a cell in training and, with several, of hiding all of them together."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """Guidance scale in sampling; 1 is the plain conditional model, larger values exaggerate the condition."""

    def build(self, *, attributes: Sequence[str]) -> ClassifierFreeGuidance:
        return ClassifierFreeGuidance(attributes=len(attributes), drop=self.drop, scale=self.scale)
