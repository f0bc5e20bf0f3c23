"""From asked conditions to counts: sample latents, decode them block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.cpu import tuned_cpu
from latdiff_core.data.request import TrainingCells, draw_matching
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import LatdiffError
from latdiff_core.interfaces import Guidance
from latdiff_core.schema import DataSchema

log = logging.getLogger(__name__)

BLOCK = 512
"""Cells that are generated together; each block has its own seed."""
MASKS, SELDOM = 10_000, 0.005
"""Keep masks drawn to see what training showed, and the share of them below which a network cannot have learned."""
CONDITIONS_STREAM = 2**32 - 1
"""Number of the seed that conditions are drawn with: that of a block which no request reaches."""


def generate_counts(
    autoencoder: CountAutoencoder,
    diffusion: Diffusion,
    annotations: Annotations,
    schema: DataSchema,
    training: TrainingCells,
    library: Tensor | None,
    seed: int,
    mean: bool,
    advance: Callable[[int], None],
) -> sparse.csr_matrix:
    """Counts (or, with ``mean``, expectations) of one cell per row of ``annotations``, as CSR.

    Parameters
    ----------
    library
        Library sizes, (cells,); generated when None.
    advance
        Called with the number of cells after each block.
    """
    blocks = []
    autoencoder.eval()
    for number, start in enumerate(range(0, len(annotations), BLOCK)):
        rows = slice(start, min(start + BLOCK, len(annotations)))
        generator = torch.Generator().manual_seed(block_seed(seed, number))
        asked = annotations[rows]
        sizes = None if library is None else library[rows]
        with torch.no_grad(), tuned_cpu():
            z, generated = _sample_latents(autoencoder, diffusion, asked.conditions, training, generator, sizes is None)
            distribution = autoencoder.decode(z, generated if sizes is None else sizes.to(z), asked.covariates(schema))
            if mean:
                blocks.append(sparse.csr_matrix(distribution.mean.float().cpu().numpy()))
            else:
                blocks.append(distribution.sample_csr(generator))
        advance(len(asked))
    return sparse.vstack(blocks, format="csr")


def warn_of_untrained_branches(trained: Guidance, asked: Guidance) -> None:
    """Warn when guidance asks the network for a combination of hidden attributes that its training hardly showed it."""
    branches: list[Tensor] = []

    def record(z_t: Tensor, t: Tensor, keep: Tensor) -> Tensor:
        branches.append(keep)
        return z_t.expand(len(keep), -1, -1)

    for t in torch.linspace(0.01, 1, 100):
        asked.guided(record)(torch.zeros(1, 1), t.view(1))
    shown = trained.keep_mask(MASKS, torch.Generator().manual_seed(0))
    for branch in torch.unique(torch.cat(branches), dim=0):
        if (shown == branch).all(-1).float().mean() < SELDOM:
            log.warning(
                "the guidance asks for cells with %d of %d conditions hidden, which training hardly ever did: the "
                "model was fitted with another guidance, or drop is too small; fit it with the one you want to use",
                int((~branch).sum()), len(branch),
            )  # fmt: skip


def block_seed(seed: int, number: int) -> int:
    """An independent seed for one block, for any seed that the user gives."""
    return int(np.random.SeedSequence([seed % 2**64, number]).generate_state(1, np.uint64)[0] >> 1)


def _library_sizes(log_library: Tensor, training: Tensor) -> Tensor:
    """Generated library sizes (batch,), kept, with a warning, within e-fold of the training cells' range.

    Raises
    ------
    LatdiffError
        If more than one, and more than a tenth, lie outside: the diffusion then is no model of these cells.
    """
    low, high = float(training.min().log()) - 1, float(training.max().log()) + 1
    outside = int(((log_library < low) | (log_library > high)).sum())
    if outside > max(1, len(log_library) // 10):
        raise LatdiffError(
            f"{outside} of {len(log_library)} generated library sizes are far outside those of the training "
            "cells: the diffusion is trained too little, or the guidance is too strong; raise "
            "training.diffusion.steps, lower the scale of diffusion.guidance, or give library sizes"
        )
    if outside:
        log.warning(
            "%d of %d generated library sizes were moved to the training cells' range", outside, len(log_library)
        )
    return log_library.clamp(low, high).exp()


def _sample_latents(
    autoencoder: CountAutoencoder,
    diffusion: Diffusion,
    conditions: Conditions,
    training: TrainingCells,
    generator: torch.Generator,
    library_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """Latents (batch, latent) and library sizes (batch,)."""
    x = diffusion.sample(conditions, generator)
    if not bool(x.isfinite().all()):
        raise LatdiffError("sampling diverged; raise the sampler's steps, lower the guidance scale, or train longer")
    z = x[:, : autoencoder.latent_dim]
    if not library_wanted:
        return z, torch.ones(len(z))
    if diffusion.dim > autoencoder.latent_dim:  # the last dimension is the log library size
        return z, _library_sizes(x[:, -1], training.library)
    cells = draw_matching(dict(enumerate(conditions.values)), training, len(conditions), generator)
    return z, training.library[cells].to(z)
