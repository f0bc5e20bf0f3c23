"""The sigmoid schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from latdiff_core.testing import ScheduleContract
from latdiff_processes import SigmoidScheduleConfig


class TestSigmoidSchedule(ScheduleContract):
    config = SigmoidScheduleConfig()


class TestLateSigmoidSchedule(ScheduleContract):
    config = SigmoidScheduleConfig(start=0.0, end=3.0, temperature=0.3)


@pytest.mark.parametrize(("start", "end", "temperature"), [(-3, 3, 1.0), (-3, 3, 1.1), (0, 3, 0.3), (0, 3, 0.7)])
def test_it_is_the_algorithm_of_the_paper(start, end, temperature):
    """Algorithm 1 of Chen 2023 at settings of its tables."""
    t = np.linspace(0, 1, 1001)
    first, last = expit(start / temperature), expit(end / temperature)
    gamma = (last - expit((t * (end - start) + start) / temperature)) / (last - first)
    gamma = np.clip(gamma, 1e-9, 1.0)
    schedule = SigmoidScheduleConfig(start=start, end=end, temperature=temperature).build()
    alpha, sigma = schedule.alpha_sigma(torch.from_numpy(t))
    np.testing.assert_allclose(alpha**2, gamma, rtol=0, atol=1e-14)
    np.testing.assert_allclose(sigma**2, 1 - gamma, rtol=0, atol=1e-14)


def test_the_signal_goes_from_one_to_a_billionth():
    alpha, _ = SigmoidScheduleConfig().build().alpha_sigma(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (alpha[0].item(), alpha.max().item()) == (1.0, 1.0)
    assert alpha.min().item() ** 2 == pytest.approx(1e-9, rel=1e-6)
    assert alpha[-1] == alpha.min()


def test_the_variance_is_preserved():
    alpha, sigma = SigmoidScheduleConfig().build().alpha_sigma(torch.rand(1000, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000, dtype=torch.float64))


def test_at_a_high_temperature_the_signal_falls_evenly():
    t = torch.linspace(0, 0.999, 1000, dtype=torch.float64)
    alpha, _ = SigmoidScheduleConfig(temperature=1000.0).build().alpha_sigma(t)
    torch.testing.assert_close(alpha**2, 1 - t, rtol=0, atol=1e-6)


def test_the_least_noise_keeps_its_digits():
    """Near the data sigma^2 grows by 6 s(-3) s(3) / (s(3) - s(-3)), s the sigmoid, per unit of time."""
    _, sigma = SigmoidScheduleConfig().build().alpha_sigma(torch.tensor(1e-18, dtype=torch.float64))
    slope = 6 * expit(-3) * expit(3) / (expit(3) - expit(-3))
    assert sigma.item() ** 2 == pytest.approx(1e-18 * slope, rel=1e-12)


def test_a_sigmoid_that_does_not_rise_is_refused():
    with pytest.raises(ValueError, match=r"start \(3.0\) must be below end \(-3.0\)"):
        SigmoidScheduleConfig(start=3, end=-3)
    with pytest.raises(ValueError, match="greater than 0"):
        SigmoidScheduleConfig(temperature=0)
