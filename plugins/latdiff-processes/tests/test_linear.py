"""The linear-beta schedule of DDPM."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.testing import ScheduleContract
from latdiff_processes import LinearScheduleConfig


class TestLinearSchedule(ScheduleContract):
    config = LinearScheduleConfig()


@pytest.fixture
def alpha_bar():
    """DDPM's cumulative product over 1,000 steps, in float64."""
    return (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)


def test_the_thousand_steps_are_ddpms(alpha_bar):
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = LinearScheduleConfig().build().alpha_sigma(t)
    torch.testing.assert_close(alpha**2, alpha_bar, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sigma**2, 1 - alpha_bar, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 10, 50, 100, 1000])
def test_the_signal_left_at_the_end_does_not_depend_on_the_number_of_steps(alpha_bar, steps):
    """With betas spread over the sampler's steps, 100 steps leave 60 % of the signal where sampling starts."""
    schedule = LinearScheduleConfig().build()
    alpha, _ = schedule.alpha_sigma(schedule.times(steps)[:1])
    assert alpha.item() == pytest.approx(alpha_bar[-1].sqrt().item(), rel=1e-9)
    assert alpha.item() < 0.0064


def test_the_variance_is_preserved():
    alpha, sigma = LinearScheduleConfig().build().alpha_sigma(torch.rand(1000, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000, dtype=torch.float64))


def test_between_steps_it_stays_between_them():
    t = torch.tensor([0.1230, 0.1234, 0.1240], dtype=torch.float64)
    log_alpha = LinearScheduleConfig().build().alpha_sigma(t)[0].log()
    assert ((log_alpha[0] - log_alpha[1]) / (log_alpha[0] - log_alpha[2])).item() == pytest.approx(0.4)


def test_the_first_steps_are_told_apart_when_the_model_is_in_half_precision():
    """In bfloat16 the first alphas are all 1 and the first noise is lost."""
    alpha, sigma = LinearScheduleConfig().build().alpha_sigma(torch.tensor([0.001, 0.002], dtype=torch.bfloat16))
    assert alpha[0] > alpha[1]
    assert sigma[0].item() == pytest.approx(0.01, rel=0.01)


def test_betas_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match=r"beta_start \(0.02\) must be below beta_end \(0.01\)"):
        LinearScheduleConfig(beta_start=0.02, beta_end=0.01)
