"""The DDIM sampler."""

from __future__ import annotations

import warnings

import pytest
import torch

from latdiff_core.testing import SamplerContract
from latdiff_processes import DDIMSamplerConfig, FlowScheduleConfig, LinearScheduleConfig


class TestDDIMSampler(SamplerContract):
    config = DDIMSamplerConfig()


class TestAncestralDDIMSampler(SamplerContract):
    config = DDIMSamplerConfig(steps=100, eta=1.0)


@pytest.fixture(scope="module")
def diffusers():
    """The library; importing it warns about other packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
    return diffusers


@pytest.fixture
def reference(diffusers):
    """diffusers' DDIM scheduler on the same 1,000 betas, its table in float64."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    scheduler = diffusers.DDIMScheduler(
        trained_betas=betas.numpy(), clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.alphas_cumprod = (1 - betas).cumprod(0)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    return scheduler


def _network(z_t, step):
    """Some prediction of the noise that depends on the latent and on the step 0 … 999 in a non-linear way."""
    return torch.tanh(z_t.roll(1, dims=-1) + 0.5 * z_t + 0.001 * step)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 10, 50])
def test_every_step_is_that_of_diffusers(reference, steps, eta):
    """With the same network, betas and noise, the latents agree in float64 along the whole way."""
    schedule, visited = LinearScheduleConfig().build(), []

    def denoise(z_t, t):
        visited.append(z_t)
        alpha, sigma = (s.unsqueeze(-1) for s in schedule.alpha_sigma(t))
        return (z_t - sigma * _network(z_t, (1000 * t - 1).round().unsqueeze(-1))) / alpha

    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sampler = DDIMSamplerConfig(steps=steps, eta=eta).build()
    last = sampler.sample(denoise, noise, schedule, torch.Generator().manual_seed(1))
    ours = [*visited, last]

    reference.set_timesteps(steps)
    generator = torch.Generator().manual_seed(1)
    theirs = [visited[0]]
    for timestep in reference.timesteps.tolist():
        step = reference.step(
            _network(theirs[-1], timestep),
            timestep,
            theirs[-1],
            eta=eta,
            variance_noise=torch.randn(6, 3, generator=generator).double(),
        )
        theirs.append(step.prev_sample)
    assert len(ours) == len(theirs) == steps + 1
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


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
