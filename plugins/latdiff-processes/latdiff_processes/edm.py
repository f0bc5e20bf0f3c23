"""The variance-exploding schedule of EDM."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import FiniteFloat, PositiveFloat, model_validator
from torch import Tensor

from latdiff_core.interfaces import Schedule, ScheduleConfig


class EDMSchedule(Schedule):
    """alpha = 1, sigma = sigma_max t^rho (Karras et al. 2022, arXiv:2206.00364, Table 1 and Eq. 5).

    The sampler's grid is even in t from sigma_max to sigma_min, which is Eq. 5, and ends with a step to 0. Training
    sigmas are log-normal. Core hands the network z_t / sqrt(1 + sigma^2), which is c_in; with ``prediction: v`` the
    clean latent is c_skip z_t + c_out F with F = -v, and lambda c_out^2 = 1, the weight here. This schedule
    with that prediction is therefore the preconditioning of Table 1, for latents of unit variance (sigma_data = 1).
    """

    def __init__(
        self, *, sigma_min: float, sigma_max: float, rho: float, log_sigma_mean: float, log_sigma_std: float
    ) -> None:
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.rho = rho
        self.log_sigma_mean = log_sigma_mean
        self.log_sigma_std = log_sigma_std

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(t.dtype, torch.float32)
        return torch.ones_like(t, dtype=dtype), (self.sigma_max * t.double() ** self.rho).to(dtype)

    def sample_times(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        log_sigma = self.log_sigma_mean + self.log_sigma_std * torch.randn(n, generator=generator)
        return ((log_sigma - math.log(self.sigma_max)) / self.rho).exp().clamp(max=1)

    def times(self, steps: int) -> Tensor:
        last = (self.sigma_min / self.sigma_max) ** (1 / self.rho)
        noisy = torch.linspace(1.0, last, steps, dtype=torch.float64)
        return torch.cat([noisy, torch.zeros(1, dtype=torch.float64)])


class EDMScheduleConfig(ScheduleConfig):
    """Noise added to the latent as it is, far beyond its own size."""

    kind: Literal["edm"] = "edm"
    sigma_min: PositiveFloat = 0.002
    """Noise from which the sampler's last step goes to 0."""
    sigma_max: PositiveFloat = 80.0
    """Noise where sampling starts."""
    rho: PositiveFloat = 7.0
    """The higher, the more of the sampler's steps are spent at little noise."""
    log_sigma_mean: FiniteFloat = -0.5
    """Mean of ln sigma in training; the paper's -1.2 is for data of standard deviation 0.5, and -1.2 + ln 2 = -0.5."""
    log_sigma_std: PositiveFloat = 1.2
    """Standard deviation of ln sigma in training."""

    @model_validator(mode="after")
    def _noise_rises(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min ({self.sigma_min}) must be below sigma_max ({self.sigma_max})")
        return self

    def build(self) -> EDMSchedule:
        return EDMSchedule(
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            rho=self.rho,
            log_sigma_mean=self.log_sigma_mean,
            log_sigma_std=self.log_sigma_std,
        )
