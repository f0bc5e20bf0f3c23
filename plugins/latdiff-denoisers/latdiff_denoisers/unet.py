"""The U-Net on the whole latent: an MLP that narrows, widens again, and joins what it saw at each width.

The down-up shape with skips is Ronneberger et al. 2015 (arXiv:1505.04597, Fig. 1); an MLP in that shape as a denoiser
of cells is scDiffusion (Luo et al. 2024, Bioinformatics 40, btae518). The definition below is our own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Denoiser, DenoiserConfig, Fraction, MakeConditioner
from latdiff_denoisers.residual_block import ResidualBlock
from latdiff_denoisers.time_embedding import TimeEmbedding
from latdiff_denoisers.zero_linear import zero_linear

EXPANSION = 2
"""Width of the hidden layer of each block, as a multiple of its level's width."""


class LevelBlock(nn.Module):
    """A residual block that takes the time embedding in the width of the network and projects it to its own."""

    def __init__(self, width: int, time_width: int, dropout: float, make_conditioner: MakeConditioner) -> None:
        super().__init__()
        self.project_time = nn.Linear(time_width, width)
        self.block = ResidualBlock(width, EXPANSION, dropout, make_conditioner(width))

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Activations (batch, 1, width) and the time embedding (batch, time width) to (batch, 1, width)."""
        changed: Tensor = self.block(x, self.project_time(time), condition)
        return changed


class Level(nn.Module):
    """Blocks on the way down, everything narrower, the skip joined to what comes back, blocks on the way up."""

    def __init__(
        self,
        *,
        width: int,
        narrower: int,
        time_width: int,
        depth: int,
        dropout: float,
        inner: nn.Module,
        make_conditioner: MakeConditioner,
    ) -> None:
        super().__init__()

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(LevelBlock(width, time_width, dropout, make_conditioner) for _ in range(depth))

        self.down = blocks()
        self.narrow = nn.Linear(width, narrower)
        self.inner = inner
        self.join = nn.Linear(narrower + width, width)
        self.up = blocks()

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Activations (batch, 1, width) and the time embedding (batch, time width) to (batch, 1, width)."""
        for block in self.down:
            x = block(x, time, condition)
        inside = self.inner(self.narrow(x), time, condition)  # (batch, 1, narrower)
        x = self.join(torch.cat([inside, x], dim=-1))  # (batch, 1, width)
        for block in self.up:
            x = block(x, time, condition)
        return x


class UNet(Denoiser):
    """Levels of falling width around one middle block of the last width, with one conditioner per block.

    Latent dimensions have no order, so there are no convolutions: a level is residual MLP blocks, and between
    levels there are linear layers. Each block gets the time embedding projected to its own width. The output layer
    is zero at the start.
    """

    def __init__(
        self, *, dim: int, widths: tuple[int, ...], depth: int, dropout: float, make_conditioner: MakeConditioner
    ) -> None:
        super().__init__()
        first = widths[0]
        self.embed = nn.Linear(dim, first)
        self.time = TimeEmbedding(first)
        levels: nn.Module = LevelBlock(widths[-1], first, dropout, make_conditioner)
        for width, narrower in reversed(list(pairwise(widths))):
            levels = Level(
                width=width,
                narrower=narrower,
                time_width=first,
                depth=depth,
                dropout=dropout,
                inner=levels,
                make_conditioner=make_conditioner,
            )
        self.levels = levels
        self.norm = nn.LayerNorm(first)
        self.out = zero_linear(first, dim)

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        x = self.embed(z_t).unsqueeze(1)  # (batch, 1, widths[0])
        x = self.levels(x, self.time(t), condition)
        out: Tensor = self.out(self.norm(x)).squeeze(1)  # (batch, dim)
        return out


class UNetConfig(DenoiserConfig):
    """A residual down-up MLP on the whole latent, with skips between equal widths."""

    kind: Literal["unet"] = "unet"
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (256, 128, 64)
    """Widths of the levels from the outside in, falling; the first at least the number of diffused dimensions."""
    depth: PositiveInt = 1
    """Residual blocks of each level on the way down, and as many on the way up; the last width has one block."""
    dropout: Fraction = 0.0
    """Dropout in the hidden layer of each block."""

    @field_validator("widths")
    @classmethod
    def _widths_fall(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width <= narrower for width, narrower in pairwise(widths)):
            raise ValueError(f"widths must fall from each level to the next; got {list(widths)}")
        return widths

    def build(self, *, dim: int, make_conditioner: MakeConditioner) -> UNet:
        if self.widths[0] < dim:
            raise ConfigError(
                f"the first of widths, {self.widths[0]}, is narrower than the {dim} diffused dimensions and could not "
                f"carry them; raise it to at least {dim} or lower latent_dim"
            )
        return UNet(dim=dim, make_conditioner=make_conditioner, **self.model_dump(exclude={"kind"}))
