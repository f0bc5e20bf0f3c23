"""Feature-wise linear modulation by the condition."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from latdiff_conditioning.zero_linear import zero_linear
from latdiff_core.interfaces import Conditioner, ConditionerConfig


class FiLMConditioner(Conditioner):
    """hidden -> (1 + scale) hidden + shift, both from the condition (Perez et al. 2018, arXiv:1709.07871, Eq. 1-3).

    Zero-initialised: it starts as the identity, where a scale centred on 0 would erase the activations.
    """

    def __init__(self, *, width: int, attributes: int, condition_width: int) -> None:
        super().__init__()
        self.scale_shift = zero_linear(attributes * condition_width, 2 * width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_shift(condition.flatten(1)).unsqueeze(1).chunk(2, dim=-1)  # (batch, 1, width)
        return hidden * (1 + scale) + shift


class FiLMConditionerConfig(ConditionerConfig):
    """Scale and shift of every activation by the condition."""

    kind: Literal["film"] = "film"

    def build(self, *, width: int, attributes: int, condition_width: int) -> FiLMConditioner:
        return FiLMConditioner(width=width, attributes=attributes, condition_width=condition_width)
