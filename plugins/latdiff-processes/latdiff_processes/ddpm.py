"""The ancestral sampler of DDPM."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.interfaces import Denoise, Sampler, SamplerConfig, Schedule

Variance = Literal["posterior", "beta"]


class DDPMSampler(Sampler):
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, Eq. 6-7), along any path.

    Each step from t to s draws from q(z_s | z_t, clean) (Kingma et al. 2021, arXiv:2107.00630, Appendix A), with
    its own variance, ``posterior``, or with the larger one of q(z_t | z_s), ``beta``. The last step adds no noise.
    """

    def __init__(self, *, steps: int, variance: Variance) -> None:
        self.steps = steps
        self.variance = variance

    def sample(
        self, denoise: Denoise, noise: Tensor, schedule: Schedule, generator: torch.Generator | None = None
    ) -> Tensor:
        times = schedule.times(self.steps)
        alphas, sigmas = (s.tolist() for s in schedule.alpha_sigma(times))
        z_t = sigmas[0] * noise
        for (t, alpha, sigma), (_, alpha_next, sigma_next) in pairwise(zip(times, alphas, sigmas, strict=True)):
            clean = denoise(z_t, moved(t, z_t.device).expand(len(z_t)))
            kept = (sigma_next / sigma) ** 2
            step_alpha = alpha / alpha_next
            step_variance = max(0.0, sigma**2 - step_alpha**2 * sigma_next**2)  # of q(z_t | z_s), beta in the paper
            z_t = step_alpha * kept * z_t + alpha_next * step_variance / sigma**2 * clean
            if sigma_next > 0:
                variance = step_variance * kept if self.variance == "posterior" else step_variance
                eps = moved(torch.randn(z_t.shape, generator=generator), z_t.device)
                z_t = z_t + math.sqrt(variance) * eps.to(z_t.dtype)
        return z_t


class DDPMSamplerConfig(SamplerConfig):
    """DDPM: ancestral steps, each with fresh noise."""

    kind: Literal["ddpm"] = "ddpm"
    steps: PositiveInt = 250
    """Steps, each one call of the network."""
    variance: Variance = "posterior"
    """Noise of a step: ``posterior`` is exact for data of a single point, ``beta`` for normal data of unit variance."""

    def build(self) -> DDPMSampler:
        return DDPMSampler(steps=self.steps, variance=self.variance)
