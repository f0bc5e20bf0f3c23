"""Concatenation of the condition to the activations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latdiff_conditioning.zero_linear import zero_linear
from latdiff_core.interfaces import Conditioner, ConditionerConfig


class ConcatConditioner(Conditioner):
    """Every token is joined with the condition and projected back to its width, as a residual.

    The projection is zero-initialised: it starts as the identity.
    """

    def __init__(self, *, width: int, attributes: int, condition_width: int) -> None:
        super().__init__()
        self.project = zero_linear(width + attributes * condition_width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        flat = condition.flatten(1).unsqueeze(1).expand(-1, hidden.shape[1], -1)  # (batch, tokens, attributes * width)
        return hidden + self.project(torch.cat([hidden, flat], dim=-1))


class ConcatConditionerConfig(ConditionerConfig):
    """The condition concatenated to every token and projected back."""

    kind: Literal["concat"] = "concat"

    def build(self, *, width: int, attributes: int, condition_width: int) -> ConcatConditioner:
        return ConcatConditioner(width=width, attributes=attributes, condition_width=condition_width)
