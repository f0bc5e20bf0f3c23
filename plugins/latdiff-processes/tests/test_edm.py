"""The variance-exploding schedule of EDM."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest, norm

from latdiff_core.prediction import target, to_clean, total_std
from latdiff_core.testing import ScheduleContract
from latdiff_processes import EDMScheduleConfig


class TestEDMSchedule(ScheduleContract):
    config = EDMScheduleConfig()


@pytest.mark.parametrize("steps", [1, 2, 18])
@pytest.mark.parametrize(("low", "high", "rho"), [(0.002, 80.0, 7.0), (0.01, 20.0, 3.0)])
def test_the_grid_is_that_of_karras(steps, low, high, rho):
    """Eq. 5: sigma_max^(1/rho) to sigma_min^(1/rho) in even steps, then 0."""
    schedule = EDMScheduleConfig(sigma_min=low, sigma_max=high, rho=rho).build()
    alpha, sigma = schedule.alpha_sigma(schedule.times(steps))
    share = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    expected = (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    torch.testing.assert_close(sigma[:-1], expected, rtol=1e-12, atol=0)
    assert sigma[-1] == 0
    assert (alpha == 1).all()


@pytest.fixture
def noisy():
    """Clean latents, noise, alpha, sigma at all magnitudes, and some output F of a network."""
    sigma = torch.logspace(-3, 2, 50, dtype=torch.float64).unsqueeze(-1)
    generator = torch.Generator().manual_seed(0)
    z, eps, output = torch.randn(3, 50, 4, generator=generator, dtype=torch.float64)
    return z, eps, torch.ones_like(sigma), sigma, output


def test_with_prediction_v_it_is_the_preconditioning_of_karras(noisy):
    """c_skip, c_out and c_in of Table 1 with sigma_data = 1, and F = -v."""
    z, eps, alpha, sigma, output = noisy
    z_t = z + sigma * eps
    c_skip, c_out, c_in = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1).sqrt(), 1 / (sigma**2 + 1).sqrt()
    torch.testing.assert_close(to_clean("v", -output, z_t, alpha, sigma), c_skip * z_t + c_out * output)
    torch.testing.assert_close(z_t / total_std(alpha, sigma), c_in * z_t)


def test_with_prediction_v_its_loss_is_that_of_karras(noisy):
    """lambda |D - z|^2 with lambda = (sigma^2 + 1) / sigma^2 = 1 / c_out^2 is the squared error of v, of weight 1."""
    z, eps, alpha, sigma, output = noisy
    clean = to_clean("v", -output, z + sigma * eps, alpha, sigma)
    ours = (-output - target("v", z, eps, alpha, sigma)) ** 2
    torch.testing.assert_close((sigma**2 + 1) / sigma**2 * (clean - z) ** 2, ours, rtol=1e-8, atol=1e-8)
    assert (EDMScheduleConfig().build().loss_weight(torch.rand(5)) == 1).all()


@pytest.mark.parametrize("config", [EDMScheduleConfig(), EDMScheduleConfig(log_sigma_mean=-2.0, log_sigma_std=0.7)])
def test_training_sigmas_are_log_normal(config):
    """Up to sigma_max, beyond which hardly any would be."""
    schedule = config.build()
    t = schedule.sample_times(20_000, torch.Generator().manual_seed(0)).double()
    assert (t == 1).float().mean() < 1e-3
    log_sigma = schedule.alpha_sigma(t[t < 1])[1].log()
    assert log_sigma.mean().item() == pytest.approx(config.log_sigma_mean, abs=4 * config.log_sigma_std / 20_000**0.5)
    assert log_sigma.std().item() == pytest.approx(config.log_sigma_std, rel=0.02)
    assert kstest(log_sigma.numpy(), norm(config.log_sigma_mean, config.log_sigma_std).cdf).pvalue > 0.01


def test_training_sigmas_are_those_of_the_paper_for_data_of_unit_variance():
    """The paper's mean of ln sigma, -1.2, is for data of standard deviation 0.5."""
    assert EDMScheduleConfig().log_sigma_mean == pytest.approx(-1.2 - math.log(0.5), abs=0.01)


def test_noise_that_does_not_rise_is_refused():
    with pytest.raises(ValueError, match=r"sigma_min \(80.0\) must be below sigma_max \(80.0\)"):
        EDMScheduleConfig(sigma_min=80.0)
