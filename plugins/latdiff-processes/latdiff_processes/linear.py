"""The linear-beta schedule of DDPM, as a function of time."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.interfaces import Schedule, ScheduleConfig

REFERENCE_STEPS = 1000
Beta = Annotated[float, Field(gt=0, lt=1)]


class LinearSchedule(Schedule):
    """Betas rising linearly over 1,000 reference steps (Ho et al. 2020, arXiv:2006.11239, section 4).

    Variance-preserving. The i-th of the 1,000 steps is at t = (i + 1) / 1000, where alpha^2 is exactly the
    product of (1 - beta); between steps log alpha^2 is interpolated. The number of steps
    that a sampler takes changes nothing here.
    """

    def __init__(self, *, beta_start: float, beta_end: float) -> None:
        betas = torch.linspace(beta_start, beta_end, REFERENCE_STEPS, dtype=torch.float64)
        self.log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        position = t.double() * REFERENCE_STEPS
        below = position.floor().clamp(0, REFERENCE_STEPS - 1).long()
        table = moved(self.log_alpha_bar, t.device)
        log_alpha_bar = torch.lerp(table[below], table[below + 1], position - below)
        sigma = torch.expm1(log_alpha_bar).neg().clamp(min=0).sqrt()
        dtype = torch.promote_types(t.dtype, torch.float32)
        return (0.5 * log_alpha_bar).exp().to(dtype), sigma.to(dtype)


class LinearScheduleConfig(ScheduleConfig):
    """Linearly rising betas over 1,000 reference steps."""

    kind: Literal["linear"] = "linear"
    beta_start: Beta = 1e-4
    """First beta."""
    beta_end: Beta = 0.02
    """Last beta."""

    @model_validator(mode="after")
    def _betas_rise(self) -> Self:
        if self.beta_start >= self.beta_end:
            raise ValueError(f"beta_start ({self.beta_start}) must be below beta_end ({self.beta_end})")
        return self

    def build(self) -> LinearSchedule:
        return LinearSchedule(beta_start=self.beta_start, beta_end=self.beta_end)
