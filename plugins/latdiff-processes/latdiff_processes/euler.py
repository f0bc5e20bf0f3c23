"""Euler's sampler."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.interfaces import Denoise, Sampler, SamplerConfig, Schedule
from latdiff_core.prediction import to_epsilon


class EulerSampler(Sampler):
    """Euler's method in t on the probability-flow ODE (Song et al. 2021, arXiv:2011.13456, Eq. 13).

    The ODE is dz_t/dt = alpha' clean + sigma' eps along any schedule, with the slopes of the schedule where a step
    starts. On the straight path this is DDIM. It is of first order where alpha and sigma are smooth; where sigma
    grows like sqrt(t), the last step leaves noise; where alpha falls like sqrt(1 - t), as on the sigmoid schedule, the
    first step misses signal; and where sigma grows as steeply as on the EDM schedule, steps in t are too long: of a
    standard deviation of 0.5, 50 leave 0.31. There DDIM is the better choice, which on EDM's is the Euler of Karras et
    al. 2022 (arXiv:2206.00364), whose steps are in sigma: 0.47.
    """

    def __init__(self, *, steps: int) -> None:
        self.steps = steps

    def sample(
        self, denoise: Denoise, noise: Tensor, schedule: Schedule, generator: torch.Generator | None = None
    ) -> Tensor:
        times = schedule.times(self.steps)
        alphas, sigmas = (s.tolist() for s in schedule.alpha_sigma(times))
        alpha_rates, sigma_rates = (s.tolist() for s in schedule.rates(times[:-1]))
        z_t = sigmas[0] * noise
        for i in range(self.steps):
            clean = denoise(z_t, moved(times[i], z_t.device).expand(len(z_t)))
            eps = to_epsilon(clean, z_t, alphas[i], sigmas[i])
            z_t = z_t + (times[i + 1] - times[i]).item() * (alpha_rates[i] * clean + sigma_rates[i] * eps)
        return z_t


class EulerSamplerConfig(SamplerConfig):
    """Euler: first order in time, one call of the network per step; on an EDM or sigmoid schedule take DDIM."""

    kind: Literal["euler"] = "euler"
    steps: PositiveInt = 50
    """Steps, each one call of the network."""

    def build(self) -> EulerSampler:
        return EulerSampler(steps=self.steps)
