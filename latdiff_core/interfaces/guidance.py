"""Guidance: which conditions are hidden in training, and how they are stressed in sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from latdiff_core.interfaces.component import ComponentConfig
from latdiff_core.interfaces.sampler import Denoise

BranchedDenoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z_t (batch, dim), t (batch,), keep (branches, attributes)) to clean latents (branches, batch, dim), in one call
of the network; an attribute that a branch does not keep is replaced by its learned null."""


class Guidance(ABC):
    """Decides what is conditional about a conditional diffusion; it is built for the model's attributes."""

    @abstractmethod
    def keep_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw which attributes of which cells a training step may see, (batch, attributes), bool; on the CPU."""

    @abstractmethod
    def guided(self, denoise: BranchedDenoise) -> Denoise:
        """Turn the conditional denoiser into the guided one that a sampler calls."""


class GuidanceConfig(ComponentConfig, ABC):
    """Base config of guidance."""

    interface = "guidance"
    of_training: ClassVar[tuple[str, ...]] = ()
    """Fields that act in training alone, which generation cannot change."""

    @abstractmethod
    def build(self, *, attributes: Sequence[str]) -> Guidance:
        """Make the guidance for the condition attributes of these names, in the order of their tokens; maybe none.

        Raises
        ------
        ConfigError
            If the config names an attribute that the model does not have.
        """
