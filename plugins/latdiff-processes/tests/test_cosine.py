"""The cosine schedule of improved DDPM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from latdiff_core.testing import ScheduleContract
from latdiff_processes import CosineScheduleConfig


class TestCosineSchedule(ScheduleContract):
    config = CosineScheduleConfig()


@pytest.mark.parametrize("offset", [0.0, 0.008, 0.1])
def test_it_is_the_closed_form_of_the_paper(offset):
    t = np.linspace(0, 0.9999, 1001)
    f = np.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    alpha, sigma = CosineScheduleConfig(offset=offset).build().alpha_sigma(torch.from_numpy(t))
    np.testing.assert_allclose(alpha**2, f / f[0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(sigma**2, 1 - f / f[0], rtol=0, atol=1e-14)


def test_the_thousand_steps_are_those_of_diffusers(in_float64):
    """Also the last one, at which beta is clipped."""
    theirs = in_float64("DDPMScheduler", 1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    alpha, _ = CosineScheduleConfig().build().alpha_sigma(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(alpha**2, theirs, rtol=1e-9, atol=1e-13)


def test_the_signal_at_the_end_is_what_the_clipped_beta_leaves():
    alpha, _ = CosineScheduleConfig().build().alpha_sigma(torch.tensor([0.999, 1.0], dtype=torch.float64))
    assert 1 - (alpha[1] / alpha[0]).item() ** 2 == pytest.approx(0.999, rel=1e-9)


def test_the_variance_is_preserved():
    alpha, sigma = CosineScheduleConfig().build().alpha_sigma(torch.rand(1000, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000, dtype=torch.float64))


def test_the_least_noise_keeps_its_digits():
    """Near the data sigma^2 grows by pi / (1 + s) tan(pi s / (2 + 2 s)) per unit of time; 1 - alpha^2 would be 0."""
    _, sigma = CosineScheduleConfig().build().alpha_sigma(torch.tensor(1e-18, dtype=torch.float64))
    slope = math.pi / 1.008 * math.tan(math.pi * 0.008 / 2.016)
    assert sigma.item() ** 2 == pytest.approx(1e-18 * slope, rel=1e-12)


def test_its_slopes_go_on_to_the_end():
    """Where alpha stands still at its least, a sampler that follows the slopes would lose its first step."""
    t = torch.tensor([0.3, 0.9, 0.999, 1.0], dtype=torch.float64)
    angle = (t + 0.008) / 1.008 * math.pi / 2
    start = 0.008 / 1.008 * math.pi / 2
    alpha_rate, sigma_rate = CosineScheduleConfig().build().rates(t)
    expected = -angle.sin() / math.cos(start) * math.pi / 2 / 1.008
    torch.testing.assert_close(alpha_rate, expected, rtol=1e-12, atol=0)
    alpha = angle.cos() / math.cos(start)
    torch.testing.assert_close(sigma_rate, -alpha / (1 - alpha**2).sqrt() * expected, rtol=1e-9, atol=1e-4)
