"""The DDIM sampler."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.interfaces import Denoise, Sampler, SamplerConfig, Schedule
from latdiff_core.prediction import to_epsilon


class DDIMSampler(Sampler):
    """Denoising diffusion implicit models (Song et al. 2021, arXiv:2010.02502, Eq. 12 and 16).

    ``eta`` = 0 is deterministic, 1 adds the noise of an ancestral step. Written in alpha and sigma, so that it also
    walks the straight path, where it is Euler's method.
    """

    def __init__(self, *, steps: int, eta: float) -> None:
        self.steps = steps
        self.eta = eta

    def sample(
        self, denoise: Denoise, noise: Tensor, schedule: Schedule, generator: torch.Generator | None = None
    ) -> Tensor:
        times = schedule.times(self.steps)
        alphas, sigmas = (s.tolist() for s in schedule.alpha_sigma(times))
        z_t = sigmas[0] * noise
        for (t, alpha, sigma), (_, alpha_next, sigma_next) in pairwise(zip(times, alphas, sigmas, strict=True)):
            clean = denoise(z_t, moved(t, z_t.device).expand(len(z_t)))
            eps = to_epsilon(clean, z_t, alpha, sigma)
            kept = alpha * sigma_next / (alpha_next * sigma)  # share of the noise that an ancestral step keeps
            fresh = self.eta * sigma_next * math.sqrt(max(0.0, 1 - kept**2))
            z_t = alpha_next * clean + math.sqrt(sigma_next**2 - fresh**2) * eps
            if fresh > 0:
                eps = moved(torch.randn(z_t.shape, generator=generator), z_t.device)
                z_t = z_t + fresh * eps.to(z_t.dtype)
        return z_t


class DDIMSamplerConfig(SamplerConfig):
    """DDIM: deterministic first-order steps, or with noise."""

    kind: Literal["ddim"] = "ddim"
    steps: PositiveInt = 50
    """Steps, each one call of the network."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the ancestral noise."""

    def build(self) -> DDIMSampler:
        return DDIMSampler(steps=self.steps, eta=self.eta)
