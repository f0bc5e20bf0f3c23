"""The condition as a part of the time embedding."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from latdiff_core.interfaces import Conditioner, ConditionerConfig


class AdaLNConditioner(Conditioner):
    """Adds the condition to the time embedding (Peebles & Xie 2023, arXiv:2212.09748, section 3.2).

    The activations are left alone: the condition acts through the block's adaptive LayerNorm. It need not be zero at
    the start, since that modulation is.
    """

    def __init__(self, *, width: int, attributes: int, condition_width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(attributes * condition_width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        return hidden

    def join_time(self, time: Tensor, condition: Tensor) -> Tensor:
        joined: Tensor = time + self.project(condition.flatten(1))  # (batch, width)
        return joined


class AdaLNConditionerConfig(ConditionerConfig):
    """The condition added to the time embedding of every block."""

    kind: Literal["adaln"] = "adaln"

    def build(self, *, width: int, attributes: int, condition_width: int) -> AdaLNConditioner:
        return AdaLNConditioner(width=width, attributes=attributes, condition_width=condition_width)
