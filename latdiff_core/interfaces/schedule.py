"""Schedule: how much signal and how much noise a latent holds at each time."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from latdiff_core.interfaces.component import ComponentConfig

SIGNAL_LEFT = 0.1
"""Largest alpha / sigma at t = 1: sampling starts from noise without any signal."""


class Schedule(ABC):
    """The path from data (t = 0) to noise (t = 1), z_t = alpha(t) z + sigma(t) eps.

    A schedule is a function of t in [0, 1] and not a module: no cast of the model to half precision
    reaches it, and no number of sampling steps changes it.
    """

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma in the shape of ``t`` and in float32 or better.

        alpha(0) = 1 and sigma(0) = 0; alpha falls and sigma rises with t.
        """

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return d alpha / dt and d sigma / dt at 0 < t <= 1, in the shape of ``t``.

        They are taken from ``alpha_sigma`` by automatic differentiation; a schedule may give them in closed form.
        """
        with torch.inference_mode(False), torch.enable_grad():
            t = t.detach().clone().requires_grad_()
            alpha, sigma = self.alpha_sigma(t)
            # Each value depends on its own time alone; 0 t lets one that is constant have a derivative too.
            alpha_rate, sigma_rate = (
                torch.autograd.grad((value + 0 * t).sum(), t, retain_graph=True)[0] for value in (alpha, sigma)
            )
        return alpha_rate, sigma_rate

    def sample_times(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` training times, (n,), in (0, 1]; uniform unless a schedule says otherwise."""
        return 1.0 - torch.rand(n, generator=generator)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Weight of the squared error at each time, (batch,); 1 unless a schedule says otherwise."""
        return torch.ones_like(t)

    def times(self, steps: int) -> Tensor:
        """The sampler's grid, (steps + 1,), from 1 down to 0, float64; even unless a schedule says otherwise."""
        return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


class ScheduleConfig(ComponentConfig, ABC):
    """Base config of schedules."""

    interface = "schedule"

    @abstractmethod
    def build(self) -> Schedule:
        """Make the schedule."""
