"""From asked conditions to counts: sample latents, decode them block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.conditions import Conditions
from latdiff_core.data.request import TrainingCells, draw_matching
from latdiff_core.diffusion import Diffusion

BLOCK = 512
"""Cells that are generated together; each block has its own seed."""


def generate_counts(
    autoencoder: CountAutoencoder,
    diffusion: Diffusion,
    conditions: Conditions,
    training: TrainingCells,
    library: Tensor | None,
    seed: int,
    mean: bool,
    advance: Callable[[int], None],
) -> sparse.csr_matrix:
    """Counts (or, with ``mean``, expectations) of one cell per row of ``conditions``, as CSR.

    Parameters
    ----------
    library
        Library sizes, (cells,); generated when None.
    advance
        Called with the number of cells after each block.
    """
    blocks = []
    autoencoder.eval()
    for number, start in enumerate(range(0, len(conditions), BLOCK)):
        rows = slice(start, min(start + BLOCK, len(conditions)))
        generator = torch.Generator().manual_seed(block_seed(seed, number))
        asked = conditions[rows]
        sizes = None if library is None else library[rows]
        with torch.no_grad():
            z, generated = _sample_latents(autoencoder, diffusion, asked, training, generator, sizes is not None)
            distribution = autoencoder.decode(z, generated if sizes is None else sizes.to(z))
            if mean:
                blocks.append(sparse.csr_matrix(distribution.mean.float().cpu().numpy()))
            else:
                blocks.append(distribution.sample_csr(generator))
        advance(len(asked))
    return sparse.vstack(blocks, format="csr")


def block_seed(seed: int, number: int) -> int:
    """An independent seed for one block, for any seed that the user gives."""
    return int(np.random.SeedSequence([seed % 2**64, number]).generate_state(1, np.uint64)[0] >> 1)


def _sample_latents(
    autoencoder: CountAutoencoder,
    diffusion: Diffusion,
    conditions: Conditions,
    training: TrainingCells,
    generator: torch.Generator,
    library_given: bool,
) -> tuple[Tensor, Tensor]:
    """Latents (batch, latent) and library sizes (batch,)."""
    x = diffusion.sample(conditions, generator)
    z = x[:, : autoencoder.latent_dim]
    if diffusion.dim > autoencoder.latent_dim:  # the last dimension is the log library size
        return z, x[:, -1].exp()
    if library_given:
        return z, torch.ones(len(z))
    cells = draw_matching(dict(enumerate(conditions.values)), training, len(conditions), generator)
    return z, training.library[cells].to(z)
