"""Euler's sampler."""

from __future__ import annotations

import math

import pytest
import torch

from latdiff_core.interfaces import Schedule
from latdiff_core.testing import CircleSchedule, SamplerContract
from latdiff_processes import (
    CosineScheduleConfig,
    DDIMSamplerConfig,
    EulerSamplerConfig,
    FlowScheduleConfig,
    SigmoidScheduleConfig,
)


class TestEulerSampler(SamplerContract):
    # Unlike DDIM's, its last step along a circle misses a single point, by the square of the step's length.
    config = EulerSamplerConfig(steps=250)


class EvenNoise(Schedule):
    """alpha = 1, sigma = 10 t."""

    def alpha_sigma(self, t):
        return torch.ones_like(t), 10 * t


def test_every_step_is_that_of_diffusers_for_flow_matching(parity, in_float64):
    """diffusers' grid ends at 1 / num_train_timesteps before it goes to 0, which here makes it ours."""
    scheduler = in_float64("FlowMatchEulerDiscreteScheduler", 20, num_train_timesteps=20)
    assert parity(EulerSamplerConfig(steps=20), FlowScheduleConfig().build(), scheduler, "flow") < 1e-11


@pytest.mark.parametrize(("prediction", "theirs"), [("epsilon", "epsilon"), ("v", "v_prediction")])
def test_every_step_is_that_of_diffusers_where_noise_grows_evenly(parity, in_float64, prediction, theirs):
    """diffusers' Euler steps are in sigma, so that they are ours where sigma is a multiple of t."""
    sigmas = torch.linspace(10, 0, 21, dtype=torch.float64).tolist()
    scheduler = in_float64("EulerDiscreteScheduler", sigmas, prediction_type=theirs)
    scheduler.is_scale_input_called = True  # the network of the comparison scales its own input
    assert parity(EulerSamplerConfig(steps=20), EvenNoise(), scheduler, prediction) < 1e-11


def test_along_a_circle_it_follows_the_slopes_there(mixture):
    """With the slopes of sine and cosine written out."""
    schedule, quarter = CircleSchedule(), 0.99 * math.pi / 2
    denoise = mixture.exact_denoise(schedule)
    noise = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = math.sin(quarter) * noise
    for t in schedule.times(10)[:-1]:
        clean, angle = denoise(z, t.expand(20)), quarter * t
        eps = (z - angle.cos() * clean) / angle.sin()
        z = z - 0.1 * quarter * (angle.cos() * eps - angle.sin() * clean)
    torch.testing.assert_close(EulerSamplerConfig(steps=10).build().sample(denoise, noise, schedule), z)


def test_it_is_ddim_on_the_straight_path_and_not_on_a_curved_one(mixture):
    noise = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def difference(schedule):
        euler, ddim = (
            config(steps=10).build().sample(mixture.exact_denoise(schedule), noise, schedule)
            for config in (EulerSamplerConfig, DDIMSamplerConfig)
        )
        return (euler - ddim).abs().max().item()

    assert difference(FlowScheduleConfig().build()) < 1e-12
    assert difference(CosineScheduleConfig().build()) > 1e-2


@pytest.mark.parametrize(
    "schedule", [FlowScheduleConfig().build(), CosineScheduleConfig().build(), CircleSchedule()], ids=lambda s: type(s)
)
def test_it_is_of_first_order(order_of_convergence, schedule):
    assert order_of_convergence(EulerSamplerConfig(), schedule) == pytest.approx(1.0, abs=0.1)


def test_on_the_sigmoid_schedule_it_loses_half_an_order(order_of_convergence):
    """There alpha falls like sqrt(1 - t), and the first step does not see it fall; DDIM does."""
    schedule = SigmoidScheduleConfig().build()
    assert order_of_convergence(EulerSamplerConfig(), schedule) == pytest.approx(0.5, abs=0.1)
    assert order_of_convergence(DDIMSamplerConfig(), schedule) > 0.85


def test_every_step_is_one_call(mixture):
    schedule, calls = FlowScheduleConfig().build(), []

    def counted(z_t, t):
        calls.append(t[0].item())
        return mixture.exact_denoise(schedule)(z_t, t)

    EulerSamplerConfig(steps=7).build().sample(counted, torch.randn(3, 4, dtype=torch.float64), schedule)
    assert calls == pytest.approx(torch.linspace(1, 0, 8)[:-1].tolist())
