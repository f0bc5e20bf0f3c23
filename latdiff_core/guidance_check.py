"""Whether guidance asks the network for what its training has shown it."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from latdiff_core.interfaces import Guidance

log = logging.getLogger(__name__)

MASKS, SELDOM = 10_000, 0.005
"""Keep masks drawn to see what training showed, and the share of them below which a network cannot have learned."""


def warn_of_untrained_branches(trained: Guidance, asked: Guidance, dim: int) -> None:
    """Warn when guidance asks the network for a combination of hidden attributes that its training hardly showed it.

    It is asked at latents of ``dim`` dimensions, as in sampling.
    """
    shown = trained.keep_mask(MASKS, torch.Generator().manual_seed(0))
    if shown.shape[1] == 0:  # no condition to be hidden
        return
    branches: list[Tensor] = []

    def record(z_t: Tensor, t: Tensor, keep: Tensor) -> Tensor:
        branches.append(keep)
        return z_t.expand(len(keep), -1, -1)

    latents = torch.randn(2, dim, generator=torch.Generator().manual_seed(0))
    for t in torch.linspace(0.01, 1, 100):
        asked.guided(record)(latents, t.expand(2))
    for branch in torch.unique(torch.cat(branches), dim=0):
        if (shown == branch).all(-1).float().mean() < SELDOM:
            log.warning(
                "the guidance asks for cells with %d of %d conditions hidden, which training hardly ever does: it is "
                "another guidance than the model is fitted with, or its drop does not fit; fit it with the one to use",
                int((~branch).sum()), len(branch),
            )  # fmt: skip
