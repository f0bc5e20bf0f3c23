"""The small parts that contracts put around the component under test."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from latdiff_core.interfaces import Conditioner, GeneStatistics, PrincipalComponents, Schedule

Module = TypeVar("Module", bound=nn.Module)


def nudge(module: Module, size: float = 0.1) -> Module:
    """Move every weight at random, away from zero initialisation, and return the module in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter))
    return module.eval()


def unused_or_broken(module: nn.Module) -> list[str]:
    """Names of the weights that got no gradient, one that is not finite, or one of zeros alone."""

    def is_trained(gradient: Tensor | None) -> bool:
        return gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any())

    return [name for name, weight in module.named_parameters() if not is_trained(weight.grad)]


def toy_statistics(genes: int) -> GeneStatistics:
    """Uneven statistics of a toy data set, the same for the same number of genes."""
    generator = torch.Generator().manual_seed(0)
    fraction, theta = (torch.randn(genes, generator=generator).exp() for _ in range(2))
    loadings, _ = torch.linalg.qr(torch.randn(genes, genes - 1, generator=generator))
    components = PrincipalComponents(fraction.log1p(), loadings, torch.linspace(2, 0.5, genes - 1))
    return GeneStatistics(fraction / fraction.sum(), theta, 4.0, components)


class AddCondition(Conditioner):
    """Adds one projection of the mean condition token to every activation."""

    def __init__(self, *, width: int, condition_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition_width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        shifted: Tensor = hidden + self.project(condition.mean(1)).unsqueeze(1)
        return shifted


class JoinTime(Conditioner):
    """Adds one projection of the mean condition token to the time embedding, and leaves the activations alone."""

    def __init__(self, *, width: int, condition_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition_width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        return hidden

    def join_time(self, time: Tensor, condition: Tensor) -> Tensor:
        joined: Tensor = time + self.project(condition.mean(1))
        return joined


class StraightSchedule(Schedule):
    """alpha = 1 - t, sigma = t."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return 1 - t, t


class ExplodingSchedule(Schedule):
    """alpha = 1, sigma = 10 t: the noise at the end is not of size 1."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return torch.ones_like(t), 10 * t


class CircleSchedule(Schedule):
    """alpha = cos, sigma = sin of a quarter turn, ending a hundredth of it before pure noise."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = 0.99 * math.pi / 2 * t.double()
        return angle.cos(), angle.sin()
