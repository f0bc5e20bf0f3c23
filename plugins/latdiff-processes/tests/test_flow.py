"""The straight path of flow matching."""

from __future__ import annotations

import torch

from latdiff_core.prediction import target
from latdiff_core.testing import ScheduleContract
from latdiff_processes import FlowScheduleConfig


class TestFlowSchedule(ScheduleContract):
    config = FlowScheduleConfig()


def test_the_path_is_a_straight_line_from_data_to_noise():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, sigma = FlowScheduleConfig().build().alpha_sigma(t)
    assert torch.equal(alpha, 1 - t)
    assert torch.equal(sigma, t)


def test_the_flow_prediction_is_the_velocity_along_the_path():
    """d z_t / dt, by autograd, is eps - z at every time."""
    schedule = FlowScheduleConfig().build()
    z, eps, t = (torch.randn(5, dtype=torch.float64) for _ in range(3))
    (alpha_rate, sigma_rate) = (
        torch.autograd.functional.jacobian(lambda t, i=i: schedule.alpha_sigma(t)[i], t).diagonal() for i in (0, 1)
    )
    alpha, sigma = schedule.alpha_sigma(t)
    torch.testing.assert_close(alpha_rate * z + sigma_rate * eps, target("flow", z, eps, alpha, sigma))
