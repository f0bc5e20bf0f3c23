"""Conditioner: the mechanism by which a condition acts on the activations of a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from latdiff_core.interfaces.component import ComponentConfig


class Conditioner(nn.Module, ABC):
    """Changes activations according to a condition, keeping their shape.

    The denoiser owns the places, the conditioner owns the mechanism: a denoiser puts one conditioner
    into each of its blocks and never asks which.
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


class Unconditional(Conditioner):
    """Leaves activations alone: what a denoiser receives when the model has no condition attributes."""

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        return hidden


MakeConditioner = Callable[[int], Conditioner]
"""Makes the conditioner for activations of the given width."""


class ConditionerConfig(ComponentConfig, ABC):
    """Base config of conditioners."""

    interface = "conditioner"

    @abstractmethod
    def build(self, *, width: int, attributes: int, condition_width: int) -> Conditioner:
        """Make a conditioner for ``width``-wide activations and ``attributes`` >= 1 condition tokens."""
