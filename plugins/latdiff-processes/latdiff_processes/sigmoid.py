"""The sigmoid schedule, as a function of time."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import FiniteFloat, PositiveFloat, model_validator
from torch import Tensor

from latdiff_core.interfaces import Schedule, ScheduleConfig

LEAST_SIGNAL = 1e-9


class SigmoidSchedule(Schedule):
    """alpha^2 along a piece of a sigmoid (Algorithm 1 of Chen 2023, arXiv:2301.10972; Jabri et al., arXiv:2212.11972).

    Variance-preserving. With x(t) going evenly from ``start`` to ``end``, both divided by the temperature,
    sigma^2 = (sigmoid(x(t)) - sigmoid(x(0))) / (sigmoid(x(1)) - sigmoid(x(0))), and alpha^2 is at least 1e-9.
    """

    def __init__(self, *, start: float, end: float, temperature: float) -> None:
        self.start = start / temperature
        self.width = (end - start) / temperature
        self.whole = self._rise(torch.ones((), dtype=torch.float64)).item()

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        noise = (self._rise(t.double()) / self.whole).clamp(max=1 - LEAST_SIGNAL)
        dtype = torch.promote_types(t.dtype, torch.float32)
        return (1 - noise).sqrt().to(dtype), noise.sqrt().to(dtype)

    def _rise(self, t: Tensor) -> Tensor:
        """sigmoid(x(t)) - sigmoid(x(0)), up to a constant factor."""
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), with every digit where a is near b.
        return torch.sigmoid(self.start + self.width * t) * -torch.expm1(-self.width * t)


class SigmoidScheduleConfig(ScheduleConfig):
    """alpha^2 along a piece of a sigmoid."""

    kind: Literal["sigmoid"] = "sigmoid"
    start: FiniteFloat = -3.0
    """Where on the sigmoid the data are."""
    end: FiniteFloat = 3.0
    """Where on the sigmoid the noise is."""
    temperature: PositiveFloat = 1.0
    """Divides both; the higher, the more even the fall of alpha^2."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start}) must be below end ({self.end})")
        return self

    def build(self) -> SigmoidSchedule:
        return SigmoidSchedule(start=self.start, end=self.end, temperature=self.temperature)
