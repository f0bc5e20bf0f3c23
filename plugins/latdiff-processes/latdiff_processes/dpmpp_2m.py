"""The multistep sampler DPM-Solver++(2M)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from latdiff_core.device import moved
from latdiff_core.interfaces import Denoise, Sampler, SamplerConfig, Schedule


class DPMpp2MSampler(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, Algorithm 2).

    Each step, of length h in log(alpha / sigma), goes towards the clean latent to which the last two calls point.
    DDIM's steps, of first order, are the first, the last, which has an infinite h, and where alpha(1) = 0 also the
    second, which has one behind it. It is of second order on a grid even in log(alpha / sigma) or on EDM's; on one
    even in t, where h stays long at both ends, it comes near that order only with many steps.
    """

    def __init__(self, *, steps: int) -> None:
        self.steps = steps

    def sample(
        self, denoise: Denoise, noise: Tensor, schedule: Schedule, generator: torch.Generator | None = None
    ) -> Tensor:
        times = schedule.times(self.steps)
        alphas, sigmas = schedule.alpha_sigma(times)
        lengths = (alphas.log() - sigmas.log()).diff().tolist()
        alphas, sigmas = alphas.tolist(), sigmas.tolist()
        z_t = sigmas[0] * noise
        clean_before, h_before = z_t, math.inf
        for i, h in enumerate(lengths):
            clean = denoise(z_t, moved(times[i], z_t.device).expand(len(z_t)))
            ahead = clean
            if 0 < h_before < math.inf and math.isfinite(h):  # 0 where a schedule stands still
                ahead = clean + h / (2 * h_before) * (clean - clean_before)
            shrink = sigmas[i + 1] / sigmas[i]
            z_t = shrink * z_t + (alphas[i + 1] - shrink * alphas[i]) * ahead  # alpha_next (1 - exp(-h))
            clean_before, h_before = clean, h
        return z_t


class DPMpp2MSamplerConfig(SamplerConfig):
    """DPM-Solver++(2M): second order, one call of the network per step."""

    kind: Literal["dpmpp_2m"] = "dpmpp_2m"
    steps: PositiveInt = 25
    """Steps, each one call of the network."""

    def build(self) -> DPMpp2MSampler:
        return DPMpp2MSampler(steps=self.steps)
