"""The cosine schedule of improved DDPM, as a function of time."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from latdiff_core.interfaces import Fraction, Schedule, ScheduleConfig

REFERENCE_STEPS = 1000
LARGEST_BETA = 0.999


class CosineSchedule(Schedule):
    """alpha^2 = f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2) (Nichol & Dhariwal 2021, arXiv:2102.09672, Eq. 17).

    Variance-preserving. The paper clips beta at 0.999, which in its 1,000 steps touches the last one alone: alpha^2
    goes no lower than what that step leaves.
    """

    def __init__(self, *, offset: float) -> None:
        self.slope = math.pi / (2 * (1 + offset))
        self.start = self.slope * offset
        before_the_end = math.sin(self.slope / REFERENCE_STEPS) / math.cos(self.start)
        self.least_alpha = math.sqrt(1 - LARGEST_BETA) * before_the_end

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.slope * t.double()
        # 1 - cos(start + angle) / cos(start), with every digit where t is near 0.
        lost = 2 * (angle / 2).sin() ** 2 + math.tan(self.start) * angle.sin()
        lost = lost.clamp(max=1 - self.least_alpha)
        dtype = torch.promote_types(t.dtype, torch.float32)
        return (1 - lost).to(dtype), (lost * (2 - lost)).sqrt().to(dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """In closed form: where alpha stands still at its least, the cosine and its slope go on."""
        alpha, sigma = self.alpha_sigma(t)
        alpha_rate = -self.slope * (self.start + self.slope * t).sin() / math.cos(self.start)
        return alpha_rate, -alpha / sigma * alpha_rate


class CosineScheduleConfig(ScheduleConfig):
    """alpha along a quarter of a cosine, with little noise added near the data."""

    kind: Literal["cosine"] = "cosine"
    offset: Fraction = 0.008
    """Start of the cosine, s in the paper: above 0, so that the first noise is not too small."""

    def build(self) -> CosineSchedule:
        return CosineSchedule(offset=self.offset)
