"""What the kinds of guidance share: the keep mask of training, and the branches of sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from latdiff_core.interfaces import BranchedDenoise, Denoise


def draw_keep_mask(batch: int, attributes: int, drop: float, generator: torch.Generator | None) -> Tensor:
    """Hide each attribute with probability ``drop`` and, of several, all together as often, (batch, attributes)."""
    keep = torch.rand(batch, attributes, generator=generator) >= drop
    if attributes > 1:
        keep &= torch.rand(batch, 1, generator=generator) >= drop
    return keep


def plain(denoise: BranchedDenoise, attributes: int) -> Denoise:
    """The conditional model without guidance: one branch, which keeps every attribute."""
    everything = torch.ones(1, attributes, dtype=torch.bool)
    return lambda z_t, t: denoise(z_t, t, everything)[0]


def conditional_and_unconditional(attributes: int) -> Tensor:
    """The keep mask of a branch with every attribute and of one with none, (2, attributes)."""
    return torch.tensor([True, False]).unsqueeze(-1).expand(-1, attributes)
