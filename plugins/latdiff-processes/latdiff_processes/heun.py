"""Heun's second-order sampler."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.interfaces import Denoise, Sampler, SamplerConfig, Schedule
from latdiff_core.prediction import to_epsilon


class HeunSampler(Sampler):
    """Heun's method on the probability-flow ODE (Karras et al. 2022, arXiv:2206.00364, Algorithm 1).

    The ODE is dz_t = clean dalpha + eps dsigma along any schedule; each step averages the slope at both ends, and the
    last step, where sigma is 0 and eps has no meaning, is Euler's. It is second order where sigma is smooth at t = 0,
    as along the straight path and EDM's; on the linear, cosine and sigmoid schedules, where sigma grows like
    sqrt(t), the last step brings it towards first order.
    """

    def __init__(self, *, steps: int) -> None:
        self.steps = steps

    def sample(
        self, denoise: Denoise, noise: Tensor, schedule: Schedule, generator: torch.Generator | None = None
    ) -> Tensor:
        times = schedule.times(self.steps)
        alphas, sigmas = (s.tolist() for s in schedule.alpha_sigma(times))

        def slopes(z_t: Tensor, i: int) -> tuple[Tensor, Tensor]:
            clean = denoise(z_t, moved(times[i], z_t.device).expand(len(z_t)))
            return clean, to_epsilon(clean, z_t, alphas[i], sigmas[i])

        z_t = sigmas[0] * noise
        for i in range(self.steps):
            d_alpha, d_sigma = alphas[i + 1] - alphas[i], sigmas[i + 1] - sigmas[i]
            clean, eps = slopes(z_t, i)
            if sigmas[i + 1] > 0:
                clean_end, eps_end = slopes(z_t + d_alpha * clean + d_sigma * eps, i + 1)
                clean, eps = (clean + clean_end) / 2, (eps + eps_end) / 2
            z_t = z_t + d_alpha * clean + d_sigma * eps
        return z_t


class HeunSamplerConfig(SamplerConfig):
    """Heun: second order, two calls of the network per step."""

    kind: Literal["heun"] = "heun"
    steps: PositiveInt = 25
    """Steps, each two calls of the network and the last one."""

    def build(self) -> HeunSampler:
        return HeunSampler(steps=self.steps)
