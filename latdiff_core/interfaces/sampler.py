"""Sampler: the loop that walks from noise to data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from latdiff_core.interfaces.component import ComponentConfig
from latdiff_core.interfaces.schedule import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(z_t (batch, dim), t (batch,)) to the clean latent (batch, dim)."""


class Sampler(ABC):
    """Turns noise into latents by calling ``denoise`` along a schedule, in a plain visible loop."""

    @abstractmethod
    def sample(
        self, denoise: Denoise, noise: Tensor, schedule: Schedule, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return clean latents.

        Parameters
        ----------
        denoise
            Gives the clean latent for ``z_t`` and ``t``; guidance is already inside.
        noise
            Standard normal draws, (batch, dim).
        schedule
            Its ``times`` are the grid; sigma(1) scales the noise to the start.
        generator
            Source of any further noise; the same state gives the same latents. It is of the CPU, whatever the device
            of ``noise``: draw there, and take ``latdiff_core.device.moved``.
        """


class SamplerConfig(ComponentConfig, ABC):
    """Base config of samplers."""

    interface = "sampler"

    @abstractmethod
    def build(self) -> Sampler:
        """Make the sampler."""
