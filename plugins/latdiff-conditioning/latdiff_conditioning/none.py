"""No guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from latdiff_conditioning.branches import plain
from latdiff_core.interfaces import BranchedDenoise, Denoise, Guidance, GuidanceConfig


class NoGuidance(Guidance):
    """Nothing is hidden in training, and sampling is the plain conditional model.

    The learned nulls are trained by cells with missing values only: without such cells the model knows no
    unconditional branch, and an attribute should not be left open in generation.
    """

    def __init__(self, *, attributes: int) -> None:
        self.attributes = attributes

    def keep_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.ones(batch, self.attributes, dtype=torch.bool)

    def guided(self, denoise: BranchedDenoise) -> Denoise:
        return plain(denoise, self.attributes)


class NoGuidanceConfig(GuidanceConfig):
    """Nothing hidden in training, nothing stressed in sampling."""

    kind: Literal["none"] = "none"

    def build(self, *, attributes: Sequence[str]) -> NoGuidance:
        return NoGuidance(attributes=len(attributes))
