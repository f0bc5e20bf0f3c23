"""Every sampler along every schedule, with the exact denoiser of a mixture: only the sampler can be wrong."""

from __future__ import annotations

import pytest
import torch

from latdiff_processes import (
    CosineScheduleConfig,
    DDIMSamplerConfig,
    DDPMSamplerConfig,
    DPMpp2MSamplerConfig,
    EDMScheduleConfig,
    EulerSamplerConfig,
    FlowScheduleConfig,
    HeunSamplerConfig,
    LinearScheduleConfig,
    SigmoidScheduleConfig,
)

CELLS, REPEATS = 1500, 3
SAMPLERS = {
    "ddim": DDIMSamplerConfig(steps=100),
    "ddpm": DDPMSamplerConfig(steps=100),
    "ddpm_beta": DDPMSamplerConfig(steps=100, variance="beta"),
    "dpmpp_2m": DPMpp2MSamplerConfig(steps=25),
    "euler": EulerSamplerConfig(steps=100),
    "heun": HeunSamplerConfig(steps=25),
}
SCHEDULES = {
    "linear": LinearScheduleConfig(),
    "cosine": CosineScheduleConfig(),
    "sigmoid": SigmoidScheduleConfig(),
    "flow": FlowScheduleConfig(),
    "edm": EDMScheduleConfig(),
}
# sigma = 80 t^7 is so curved in t that Euler's straight steps in t need to be short.
STEPS = {("euler", "edm"): 300}


def energy_distance(x, y):
    """2 E|x - y| - E|x - x'| - E|y - y'|, over all pairs."""
    return (2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()).item()


@pytest.fixture(scope="module")
def floor(mixture):
    """Mean energy distance between two sets of real points."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(mixture.sample(CELLS, generator), mixture.sample(CELLS, generator)) for _ in range(12)]
    return sum(energy_distance(x, y) for x, y in pairs) / len(pairs)


def _distance(mixture, sampler, schedule):
    """Mean energy distance between sampled and real points."""
    generator = torch.Generator().manual_seed(1)
    total = 0.0
    for _ in range(REPEATS):
        noise = torch.randn(CELLS, 4, generator=generator, dtype=torch.float64)
        z = sampler.sample(mixture.exact_denoise(schedule), noise, schedule, generator)
        total += energy_distance(z, mixture.sample(CELLS, generator))
    return total / REPEATS


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_are_as_near_to_real_points_as_real_points_are(mixture, floor, sampler, schedule):
    config = SAMPLERS[sampler]
    config = config.model_copy(update={"steps": STEPS.get((sampler, schedule), config.steps)})
    distance = _distance(mixture, config.build(), SCHEDULES[schedule].build())
    print(f"mixture {sampler} along {schedule}: {distance / floor:.2f} of the distance between real points")
    assert distance < 1.7 * floor


def test_too_few_steps_are_noticed(mixture, floor):
    """The measure itself can fail: five first-order steps, or Euler's first 100 along EDM, do not reach the floor."""
    assert _distance(mixture, DDIMSamplerConfig(steps=5).build(), LinearScheduleConfig().build()) > 5 * floor
    assert _distance(mixture, SAMPLERS["euler"].build(), EDMScheduleConfig().build()) > 2 * floor
