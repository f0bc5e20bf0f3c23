"""The four predictions and their way back to the clean latent."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from latdiff_core.assembly import check_assembly
from latdiff_core.errors import ConfigError
from latdiff_core.prediction import Prediction, target, to_clean, to_epsilon
from latdiff_core.registry import current_registry

PREDICTIONS = get_args(Prediction)
TIMES = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)


def alpha_sigma(kind: str, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, sigma = current_registry().get("schedule", kind)().build().alpha_sigma(t)
    return alpha.unsqueeze(-1), sigma.unsqueeze(-1)


@pytest.mark.parametrize("schedule", ["linear", "flow"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_prediction_gives_the_clean_latent_back(prediction, schedule):
    z, eps = torch.randn(2, len(TIMES), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha, sigma = alpha_sigma(schedule, TIMES)
    z_t = alpha * z + sigma * eps
    clean = to_clean(prediction, target(prediction, z, eps, alpha, sigma), z_t, alpha, sigma)
    torch.testing.assert_close(clean, z, rtol=0, atol=1e-10)
    torch.testing.assert_close(to_epsilon(clean, z_t, alpha, sigma), eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prediction", [p for p in PREDICTIONS if p != "epsilon"])
def test_all_but_epsilon_give_a_clean_latent_from_pure_noise(prediction):
    z, eps = torch.randn(2, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha, sigma = alpha_sigma("flow", torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(to_clean(prediction, target(prediction, z, eps, alpha, sigma), eps, alpha, sigma), z)


@pytest.mark.parametrize(("prediction", "schedule"), [("flow", "flow"), ("v", "linear")])
def test_velocities_are_derivatives_of_the_noisy_latent(prediction, schedule):
    """Flow is dz_t/dt on the straight path; v is dz_t/dphi, with phi = atan2(sigma, alpha), on the circle."""
    z, eps = torch.randn(2, len(TIMES), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = 1e-6
    (a0, s0), (a1, s1) = alpha_sigma(schedule, TIMES - h), alpha_sigma(schedule, TIMES + h)
    angle = torch.atan2(s1, a1) - torch.atan2(s0, a0)
    slope = ((a1 - a0) * z + (s1 - s0) * eps) / (2 * h if prediction == "flow" else angle)
    alpha, sigma = alpha_sigma(schedule, TIMES)
    torch.testing.assert_close(target(prediction, z, eps, alpha, sigma), slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", ["flow", "cosine", "sigmoid"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_epsilon_alone_is_refused_on_a_schedule_that_ends_in_pure_noise(make_model, prediction, schedule):
    config = make_model({"diffusion.prediction": prediction, "diffusion.schedule": schedule}).config
    if prediction == "epsilon":
        with pytest.raises(ConfigError, match=r"diffusion -> prediction: epsilon .* use v, flow or clean"):
            check_assembly(config)
    else:
        check_assembly(config)


@pytest.mark.parametrize("schedule", ["linear", "edm"])
def test_epsilon_is_allowed_where_some_signal_is_always_left(make_model, schedule):
    check_assembly(make_model({"diffusion.prediction": "epsilon", "diffusion.schedule": schedule}).config)
