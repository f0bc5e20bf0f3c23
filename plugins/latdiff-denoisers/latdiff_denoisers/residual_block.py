"""The block that the denoisers on whole latents are made of."""

from __future__ import annotations

from torch import Tensor, nn

from latdiff_core.interfaces import Conditioner
from latdiff_denoisers.adaptive_norm import AdaptiveNorm, modulate


class ResidualBlock(nn.Module):
    """Conditioner, then an MLP behind an adaLN-Zero gate; it begins as its conditioner."""

    def __init__(self, width: int, expansion: int, dropout: float, conditioner: Conditioner) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        hidden = expansion * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.modulation = AdaptiveNorm(width, 3)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Activations (batch, 1, width) and the time embedding (batch, width) to activations (batch, 1, width)."""
        shift, scale, gate = self.modulation(self.conditioner.join_time(time, condition))
        x = self.conditioner(x, condition)
        changed: Tensor = x + gate * self.mlp(modulate(self.norm(x), shift, scale))
        return changed
