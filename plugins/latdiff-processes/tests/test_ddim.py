"""The DDIM sampler."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.testing import SamplerContract
from latdiff_processes import DDIMSamplerConfig, FlowScheduleConfig, LinearScheduleConfig


class TestDDIMSampler(SamplerContract):
    config = DDIMSamplerConfig()


class TestAncestralDDIMSampler(SamplerContract):
    config = DDIMSamplerConfig(steps=100, eta=1.0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 10, 50])
def test_every_step_is_that_of_diffusers(parity, in_float64, steps, eta):
    """With the same network, betas and noise, the latents agree in float64 along the whole way."""
    scheduler = in_float64(
        "DDIMScheduler", steps, beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing="trailing"
    )
    noise = {"eta": eta, "generator": torch.Generator().manual_seed(1)}
    config = DDIMSamplerConfig(steps=steps, eta=eta)
    assert parity(config, LinearScheduleConfig().build(), scheduler, "epsilon", **noise) < 1e-11


@pytest.mark.parametrize("schedule", [LinearScheduleConfig().build(), FlowScheduleConfig().build()])
def test_without_noise_it_is_of_first_order(order_of_convergence, schedule):
    assert order_of_convergence(DDIMSamplerConfig(), schedule) == pytest.approx(1.0, abs=0.1)


def test_on_the_straight_path_it_is_eulers_method(mixture):
    schedule = FlowScheduleConfig().build()
    denoise, noise = mixture.exact_denoise(schedule), torch.randn(20, 4, dtype=torch.float64)
    z = noise
    for t in schedule.times(10)[:-1]:
        velocity = (z - denoise(z, t.expand(20))) / t
        z = z - 0.1 * velocity
    torch.testing.assert_close(DDIMSamplerConfig(steps=10).build().sample(denoise, noise, schedule), z)


def test_every_step_is_one_call(mixture):
    schedule, calls = FlowScheduleConfig().build(), []

    def counted(z_t, t):
        calls.append(t[0].item())
        return mixture.exact_denoise(schedule)(z_t, t)

    DDIMSamplerConfig(steps=7).build().sample(counted, torch.randn(3, 4, dtype=torch.float64), schedule)
    assert calls == pytest.approx(torch.linspace(1, 0, 8)[:-1].tolist())
