"""Conditioner: the mechanism by which a condition acts on the activations of a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from latdiff_core.interfaces.component import ComponentConfig


class Conditioner(nn.Module, ABC):
    """Changes activations, or the time embedding, according to a condition.

    The denoiser owns the places, the conditioner owns the mechanism: a denoiser puts one conditioner
    into each of its blocks, calls both of its methods, and never asks which it is.
    """

    @abstractmethod
    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Return conditioned activations.

        Parameters
        ----------
        hidden
            Activations, (batch, tokens, width).
        condition
            One token per attribute of the cell, (batch, attributes, condition width).
        """

    def join_time(self, time: Tensor, condition: Tensor) -> Tensor:
        """Return the block's time embedding, (batch, width), unchanged unless the condition acts through it."""
        return time


class Unconditional(Conditioner):
    """Leaves activations alone: what a denoiser receives when the model has no condition attributes."""

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        return hidden


MakeConditioner = Callable[[int], Conditioner]
"""Makes the conditioner for activations, and a time embedding, of the given width."""


class ConditionerConfig(ComponentConfig, ABC):
    """Base config of conditioners."""

    interface = "conditioner"

    @abstractmethod
    def build(self, *, width: int, attributes: int, condition_width: int) -> Conditioner:
        """Make a conditioner for ``width``-wide activations and ``attributes`` >= 1 condition tokens."""
