"""Distributions whose best possible denoiser is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from latdiff_core.interfaces import Denoise, Schedule


@dataclass(frozen=True)
class Mixture:
    """Normal distributions with diagonal covariance in float64.

    Attributes
    ----------
    weights, means, stds
        (components,), (components, dim), (components, dim).
    """

    weights: Tensor
    means: Tensor
    stds: Tensor

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws, (n, dim)."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[chosen] + self.stds[chosen] * noise

    def exact_denoise(self, schedule: Schedule) -> Denoise:
        """The expected clean latent given ``z_t``: the mean of every component's posterior, by responsibility."""

        def denoise(z_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = (s.view(-1, 1, 1) for s in schedule.alpha_sigma(t))
            variance = (alpha * self.stds) ** 2 + sigma**2  # (batch, components, dim)
            residual = z_t.unsqueeze(1) - alpha * self.means
            log_weights = self.weights.log() - 0.5 * (residual**2 / variance + variance.log()).sum(-1)
            posterior = self.means + alpha * self.stds**2 / variance * residual
            return (log_weights.softmax(-1).unsqueeze(-1) * posterior).sum(1)

        return denoise


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    """Three well separated components in four dimensions."""
    return Mixture(
        weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        means=torch.tensor([[2.0, 0, 1, 0], [-1, 1.5, 0, -1], [0, -2, -1, 1]], dtype=torch.float64),
        stds=torch.tensor([[0.3, 0.6, 0.2, 0.5], [0.5, 0.2, 0.4, 0.3], [0.2, 0.4, 0.6, 0.3]], dtype=torch.float64),
    )


@pytest.fixture(scope="session")
def normal() -> Mixture:
    """One normal distribution in one dimension, mean 1 and standard deviation 0.5."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return Mixture(weights=one[0], means=one, stds=0.5 * one)


@pytest.fixture(scope="session")
def order_of_convergence(normal):
    """How fast the error falls with the number of steps: log2 of the error's ratio from 16 to 32 steps."""

    def measure(config, schedule: Schedule) -> float:
        noise = torch.linspace(-2, 2, 81, dtype=torch.float64).unsqueeze(-1)
        alpha, sigma = schedule.alpha_sigma(torch.ones((), dtype=torch.float64))
        # On the probability-flow path the standardised position never changes.
        exact = 1 + 0.5 * (sigma * noise - alpha) / (0.25 * alpha**2 + sigma**2).sqrt()
        errors = []
        for steps in (16, 32):
            sampler = config.model_copy(update={"steps": steps}).build()
            z = sampler.sample(normal.exact_denoise(schedule), noise, schedule)
            errors.append((z - exact).square().mean().sqrt())
        return (errors[0] / errors[1]).log2().item()

    return measure
