"""Distributions whose best possible denoiser is known in closed form, and diffusers to compare with."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from latdiff_core.interfaces import Denoise, Schedule
from latdiff_core.prediction import to_clean, total_std


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
    """How fast the error falls with the number of steps: log2 of the error's ratio when their number doubles."""

    def measure(config, schedule: Schedule, steps: int = 16) -> float:
        noise = torch.linspace(-2, 2, 81, dtype=torch.float64).unsqueeze(-1)
        alpha, sigma = schedule.alpha_sigma(torch.ones((), dtype=torch.float64))
        # On the probability-flow path the standardised position never changes.
        exact = 1 + 0.5 * (sigma * noise - alpha) / (0.25 * alpha**2 + sigma**2).sqrt()
        errors = []
        for n in (steps, 2 * steps):
            sampler = config.model_copy(update={"steps": n}).build()
            z = sampler.sample(normal.exact_denoise(schedule), noise, schedule)
            errors.append((z - exact).square().mean().sqrt())
        return (errors[0] / errors[1]).log2().item()

    return measure


@pytest.fixture(scope="session")
def diffusers():
    """The library; importing it warns about other packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
    return diffusers


class Double:
    """A module in which ``float32`` means ``float64``."""

    def __init__(self, module) -> None:
        self.module = module
        self.float32 = module.float64

    def __getattr__(self, name: str):
        return getattr(self.module, name)


@pytest.fixture
def in_float64(diffusers, monkeypatch):
    """Make a scheduler of diffusers, with a number of steps or with their sigmas, that works in float64.

    Wherever its own file says float32; and it draws its noise as our samplers do.
    """

    def randn_tensor(shape, generator=None, **_):
        return torch.randn(shape, generator=generator).double()

    def make(name: str, steps: int | list[float], **config):
        kind = getattr(diffusers, name)
        file = sys.modules[kind.__module__]
        monkeypatch.setattr(file, "torch", Double(torch))
        monkeypatch.setattr(file, "np", Double(np))
        monkeypatch.setattr(file, "randn_tensor", randn_tensor, raising=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, for the way it reads tensors
            scheduler = kind(**config)
            if isinstance(steps, int):
                scheduler.set_timesteps(steps)
            else:
                scheduler.set_timesteps(sigmas=steps)
        return scheduler

    return make


@pytest.fixture(scope="session")
def parity():
    """Walk a sampler and a scheduler of diffusers with the same network; the largest difference on the whole way."""

    def measure(config, schedule: Schedule, scheduler, prediction: str, **step) -> float:
        calls = []

        def network(z_t: Tensor, t: Tensor) -> Tensor:
            """Some output that depends on the latent and on the time in a non-linear way."""
            z = z_t / total_std(*_alpha_sigma(schedule, t))
            return torch.tanh(z.roll(1, dims=-1) + 0.5 * z + t.unsqueeze(-1))

        def denoise(z_t: Tensor, t: Tensor) -> Tensor:
            calls.append((z_t, t))
            return to_clean(prediction, network(z_t, t), z_t, *_alpha_sigma(schedule, t))

        noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        last = config.build().sample(denoise, noise, schedule, torch.Generator().manual_seed(1))
        ours = [*(z_t for z_t, _ in calls), last]
        theirs = [ours[0]]
        for timestep, (_, t) in zip(scheduler.timesteps, calls, strict=True):
            theirs.append(scheduler.step(network(theirs[-1], t), timestep, theirs[-1], **step).prev_sample)
        assert {z_t.dtype for z_t in theirs} == {torch.float64}
        error = (torch.stack(ours) - torch.stack(theirs)).abs().max().item()
        print(f"parity {config.kind} vs {type(scheduler).__name__}: {error:.3g}")
        return error

    return measure


def _alpha_sigma(schedule: Schedule, t: Tensor) -> list[Tensor]:
    return [s.unsqueeze(-1) for s in schedule.alpha_sigma(t)]
