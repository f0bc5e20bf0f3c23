"""The residual MLP on the whole latent, as in CFGen (Palma et al. 2025, arXiv:2407.11734)."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Denoiser, DenoiserConfig, Fraction, MakeConditioner
from latdiff_denoisers.residual_block import ResidualBlock
from latdiff_denoisers.time_embedding import TimeEmbedding
from latdiff_denoisers.zero_linear import zero_linear


class ResNetMLP(Denoiser):
    """Residual blocks of one width on the latent as one token, with one conditioner per block.

    The order of the latent's dimensions means nothing to it. CFGen adds time and condition to the hidden layer of each
    block; here time acts through adaLN-Zero, and the condition through whichever conditioner is chosen. The
    output layer is zero at the start.
    """

    def __init__(
        self, *, dim: int, width: int, depth: int, expansion: int, dropout: float, make_conditioner: MakeConditioner
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, expansion, dropout, make_conditioner(width)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.out = zero_linear(width, dim)

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        x = self.embed(z_t).unsqueeze(1)  # (batch, 1, width)
        time = self.time(t)
        for block in self.blocks:
            x = block(x, time, condition)
        out: Tensor = self.out(self.norm(x)).squeeze(1)  # (batch, dim)
        return out


class ResNetMLPConfig(DenoiserConfig):
    """A residual MLP on the whole latent."""

    kind: Literal["resnet_mlp"] = "resnet_mlp"
    width: PositiveInt = 256
    """Width of the activations; at least the number of diffused dimensions."""
    depth: PositiveInt = 4
    """Number of residual blocks."""
    expansion: PositiveInt = 2
    """Width of the hidden layer of each block, as a multiple of ``width``."""
    dropout: Fraction = 0.0
    """Dropout in the hidden layer of each block."""

    def build(self, *, dim: int, make_conditioner: MakeConditioner) -> ResNetMLP:
        if self.width < dim:
            raise ConfigError(
                f"width {self.width} is narrower than the {dim} diffused dimensions and could not carry them; "
                f"raise width to at least {dim} or lower latent_dim"
            )
        return ResNetMLP(dim=dim, make_conditioner=make_conditioner, **self.model_dump(exclude={"kind"}))
