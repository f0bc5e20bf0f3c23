"""The multistep sampler DPM-Solver++(2M)."""

from __future__ import annotations

import math

import pytest
import torch

from latdiff_core.testing import CircleSchedule, SamplerContract
from latdiff_processes import (
    DDIMSamplerConfig,
    DPMpp2MSamplerConfig,
    EDMScheduleConfig,
    FlowScheduleConfig,
    LinearScheduleConfig,
    SigmoidScheduleConfig,
)


class TestDPMpp2MSampler(SamplerContract):
    config = DPMpp2MSamplerConfig()
    tolerance = 0.01


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
@pytest.mark.parametrize(("prediction", "theirs"), [("epsilon", "epsilon"), ("v", "v_prediction")])
def test_every_step_is_that_of_diffusers(parity, in_float64, prediction, theirs, steps):
    """With the same network and betas, the latents agree in float64 along the whole way."""
    scheduler = in_float64(
        "DPMSolverMultistepScheduler",
        steps,
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type=theirs,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        timestep_spacing="trailing",
    )
    error = parity(DPMpp2MSamplerConfig(steps=steps), LinearScheduleConfig().build(), scheduler, prediction)
    assert error < 1e-11


class EvenLogRatio(CircleSchedule):
    """A circle whose grid is even in log(alpha / sigma) down to sigma = 0.001, as in the solver's theory."""

    def times(self, steps):
        begin, end = 1 / math.tan(0.99 * math.pi / 2), 1e3
        ratio = torch.linspace(math.log(begin), math.log(end), steps, dtype=torch.float64).exp()
        t = torch.atan(1 / ratio) / (0.99 * math.pi / 2)
        return torch.cat([torch.ones(1), t[1:], torch.zeros(1)])


@pytest.mark.parametrize("schedule", [EvenLogRatio(), EDMScheduleConfig().build()], ids=["variance_preserving", "edm"])
def test_it_is_of_second_order(order_of_convergence, schedule):
    assert order_of_convergence(DPMpp2MSamplerConfig(), schedule, steps=64) == pytest.approx(2.0, abs=0.15)


def test_on_an_even_grid_it_is_above_first_order(order_of_convergence):
    """There the steps at both ends stay long in log(alpha / sigma)."""
    schedule = FlowScheduleConfig().build()
    assert 1.6 < order_of_convergence(DPMpp2MSamplerConfig(), schedule, steps=128) < 1.9


@pytest.mark.parametrize(("schedule", "ddims"), [(FlowScheduleConfig().build(), 3), (CircleSchedule(), 2)])
def test_the_first_steps_and_the_last_are_ddims(mixture, schedule, ddims):
    """The second step too where alpha(1) = 0: the step before it is infinitely long in log(alpha / sigma)."""
    noise = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def difference(steps):
        ours, ddim = (
            config(steps=steps).build().sample(mixture.exact_denoise(schedule), noise, schedule)
            for config in (DPMpp2MSamplerConfig, DDIMSamplerConfig)
        )
        return (ours - ddim).abs().max().item()

    assert difference(ddims) < 1e-12
    assert difference(ddims + 1) > 1e-3


def test_every_step_is_one_call(mixture):
    schedule, calls = FlowScheduleConfig().build(), []

    def counted(z_t, t):
        calls.append(t[0].item())
        return mixture.exact_denoise(schedule)(z_t, t)

    DPMpp2MSamplerConfig(steps=7).build().sample(counted, torch.randn(3, 4, dtype=torch.float64), schedule)
    assert calls == pytest.approx(torch.linspace(1, 0, 8)[:-1].tolist())


def test_a_schedule_may_stand_still():
    """At a temperature of 0.1 the first steps of the sigmoid move nothing, and the next one is of first order."""
    schedule = SigmoidScheduleConfig(temperature=0.1).build()
    alphas, sigmas = schedule.alpha_sigma(schedule.times(25))
    assert alphas[0] == alphas[1]
    assert sigmas[0] == sigmas[1]
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    found = DPMpp2MSamplerConfig().build().sample(lambda z_t, t: torch.ones_like(z_t), noise, schedule)
    torch.testing.assert_close(found, torch.ones(50, 3), atol=0.02, rtol=0)
