"""Denoiser: the network of the diffusion."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from latdiff_core.interfaces.component import ComponentConfig
from latdiff_core.interfaces.conditioner import MakeConditioner


class Denoiser(nn.Module, ABC):
    """Predicts, from a noisy latent, whatever the model's ``prediction`` asks for."""

    @abstractmethod
    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the prediction, (batch, dim).

        Parameters
        ----------
        z_t
            Noisy latents, (batch, dim).
        t
            Diffusion times, (batch,), 0 = data, 1 = noise.
        condition
            One token per attribute, (batch, attributes, condition width); attributes may be 0.
        """


class DenoiserConfig(ComponentConfig, ABC):
    """Base config of denoisers."""

    interface = "denoiser"

    @abstractmethod
    def build(self, *, dim: int, make_conditioner: MakeConditioner) -> Denoiser:
        """Make the denoiser of ``dim``-dimensional vectors, with one conditioner in each of its blocks.

        Raises
        ------
        ConfigError
            If the denoiser is too narrow to carry ``dim`` values.
        """
