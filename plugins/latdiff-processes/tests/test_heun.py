"""Heun's second-order sampler."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.testing import CircleSchedule, SamplerContract
from latdiff_processes import EDMScheduleConfig, FlowScheduleConfig, HeunSamplerConfig, LinearScheduleConfig


class TestHeunSampler(SamplerContract):
    config = HeunSamplerConfig()
    tolerance = 0.01


@pytest.mark.parametrize("schedule", [FlowScheduleConfig().build(), CircleSchedule()])
def test_it_is_of_second_order(order_of_convergence, schedule):
    assert order_of_convergence(HeunSamplerConfig(), schedule) == pytest.approx(2.0, abs=0.15)


def test_it_beats_first_order_on_the_linear_schedule(order_of_convergence):
    """There sigma grows as the square root of time, and the last step, Euler's, is longer than at second order."""
    assert order_of_convergence(HeunSamplerConfig(), LinearScheduleConfig().build()) > 1.5


def test_it_is_of_second_order_on_edms_grid(order_of_convergence):
    assert order_of_convergence(HeunSamplerConfig(), EDMScheduleConfig().build(), steps=64) == pytest.approx(2, abs=0.1)


def test_every_step_is_that_of_diffusers_for_flow_matching(parity, in_float64):
    """diffusers' grid ends at 1 / num_train_timesteps before it goes to 0, which here makes it ours."""
    scheduler = in_float64("FlowMatchHeunDiscreteScheduler", 20, num_train_timesteps=20)
    assert parity(HeunSamplerConfig(steps=20), FlowScheduleConfig().build(), scheduler, "flow") < 1e-11


@pytest.mark.parametrize(("prediction", "theirs"), [("epsilon", "epsilon"), ("v", "v_prediction")])
def test_every_step_is_that_of_diffusers_for_edm(parity, in_float64, prediction, theirs):
    """On the grid of Karras et al. between the two ends that diffusers takes from its betas."""
    scheduler = in_float64("HeunDiscreteScheduler", 20, use_karras_sigmas=True, prediction_type=theirs)
    schedule = EDMScheduleConfig(sigma_min=scheduler.sigmas[-2].item(), sigma_max=scheduler.sigmas[0].item()).build()
    assert parity(HeunSamplerConfig(steps=20), schedule, scheduler, prediction) < 1e-11


def test_every_step_is_two_calls_and_the_last_one(mixture):
    """The last step ends where sigma is 0, at which the noise in the latent has no meaning."""
    schedule, calls = FlowScheduleConfig().build(), []

    def counted(z_t, t):
        calls.append(t[0].item())
        return mixture.exact_denoise(schedule)(z_t, t)

    HeunSamplerConfig(steps=4).build().sample(counted, torch.randn(3, 4, dtype=torch.float64), schedule)
    assert calls == pytest.approx([1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25])
