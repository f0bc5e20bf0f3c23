"""The ancestral sampler of DDPM."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.testing import CircleSchedule, SamplerContract
from latdiff_processes import (
    CosineScheduleConfig,
    DDIMSamplerConfig,
    DDPMSamplerConfig,
    EDMScheduleConfig,
    FlowScheduleConfig,
    LinearScheduleConfig,
)


class TestDDPMSampler(SamplerContract):
    config = DDPMSamplerConfig()


class TestLargeVarianceDDPMSampler(SamplerContract):
    config = DDPMSamplerConfig(variance="beta")


# With fewer than 1,000 steps diffusers adds noise in the last one too: that of beta, or 1e-10 for the posterior.
@pytest.mark.parametrize(
    ("variance", "theirs", "steps"),
    [("posterior", "fixed_small", 50), ("posterior", "fixed_small", 1000), ("beta", "fixed_large", 1000)],
)
@pytest.mark.parametrize(("prediction", "prediction_type"), [("epsilon", "epsilon"), ("v", "v_prediction")])
def test_every_step_is_that_of_diffusers(parity, in_float64, prediction, prediction_type, variance, theirs, steps):
    """With the same network, betas and noise, the latents agree in float64 along the whole way."""
    scheduler = in_float64(
        "DDPMScheduler",
        steps,
        beta_start=1e-4,
        beta_end=0.02,
        variance_type=theirs,
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    config, generator = DDPMSamplerConfig(steps=steps, variance=variance), torch.Generator().manual_seed(1)
    error = parity(config, LinearScheduleConfig().build(), scheduler, prediction, generator=generator)
    assert error < 1e-9  # diffusers takes sigma^2 as 1 - alpha_bar, which keeps 12 digits of the first beta


@pytest.mark.parametrize("config", [LinearScheduleConfig(), FlowScheduleConfig(), EDMScheduleConfig()])
def test_with_the_posterior_variance_it_is_ddim_with_all_of_its_noise(mixture, config):
    """Along every path, also where it starts without any signal."""
    schedule = config.build()
    noise = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ddpm, ddim = (
        sampler.build().sample(mixture.exact_denoise(schedule), noise, schedule, torch.Generator().manual_seed(1))
        for sampler in (DDPMSamplerConfig(steps=20), DDIMSamplerConfig(steps=20, eta=1.0))
    )
    torch.testing.assert_close(ddpm, ddim, rtol=1e-10, atol=1e-10)


def _standard_deviations(schedule, gain, variance):
    """Of the latents on the way, where the best clean latent is ``gain`` z_t, relative to those of z_t and eps."""
    relative = []

    def denoise(z_t, t):
        alpha, sigma = (s[0] for s in schedule.alpha_sigma(t))
        clean = gain * alpha * z_t
        relative.append((z_t.std() / (gain * alpha**2 + sigma**2).sqrt()).item())
        return clean

    noise = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    DDPMSamplerConfig(steps=10, variance=variance).build().sample(denoise, noise, schedule, generator)
    return relative


@pytest.mark.parametrize(("gain", "exact", "other"), [(0.0, "posterior", "beta"), (1.0, "beta", "posterior")])
def test_each_variance_is_exact_for_its_own_data(gain, exact, other):
    """In ten steps only: the posterior's for data of a single point, beta for normal data of unit variance."""
    schedule = CircleSchedule()
    assert _standard_deviations(schedule, gain, exact) == pytest.approx([1] * 10, abs=0.02)
    assert max(abs(std - 1) for std in _standard_deviations(schedule, gain, other)) > 0.05


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_the_last_step_adds_no_noise(mixture, variance):
    """It ends at the clean latent of the last call."""
    schedule, clean = CosineScheduleConfig().build(), []

    def watched(z_t, t):
        clean.append(mixture.exact_denoise(schedule)(z_t, t))
        return clean[-1]

    noise = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = DDPMSamplerConfig(steps=7, variance=variance).build().sample(watched, noise, schedule)
    assert len(clean) == 7
    torch.testing.assert_close(z, clean[-1], rtol=1e-12, atol=1e-12)
