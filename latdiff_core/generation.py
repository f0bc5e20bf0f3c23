"""From asked conditions to counts: sample latents and decode them, block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.cpu import tuned_cpu
from latdiff_core.data import MatchingCells, Request
from latdiff_core.device import Accelerator
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import LatdiffError
from latdiff_core.schema import DataSchema

log = logging.getLogger(__name__)

BLOCK = 512
"""Cells that are generated together on a CPU, and decoded together anywhere; each block has its own random streams."""
GPU_BLOCK = 20 * BLOCK
"""On a GPU, which samples the latents of so many in the time that it takes for those of a few."""


@dataclass(frozen=True)
class GeneratedCells:
    """Generated cells.

    Attributes
    ----------
    counts
        CSR, (cells, genes): int32, or float32 where they are expectations.
    annotations
        Condition and nuisance values.
    """

    counts: sparse.csr_matrix
    annotations: Annotations

    def __len__(self) -> int:
        return len(self.annotations)


@dataclass(frozen=True)
class Generation:
    """The answer to a request, in blocks; block k is a function of the model, the request, the seed and k alone.

    Attributes
    ----------
    autoencoder, diffusion, schema
        The model.
    request
        What is asked for.
    seed
        Any whole number of 64 bits with its sign.
    mean
        Whether counts are expectations instead of samples.
    """

    autoencoder: CountAutoencoder
    diffusion: Diffusion
    schema: DataSchema
    request: Request
    seed: int
    mean: bool

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.diffusion.standardiser.mean.device

    @property
    def accelerator(self) -> Accelerator:
        """What makes the cells, and so decides, beside the seed, which ones."""
        return "cpu" if self.device.type == "cpu" else "gpu"

    @property
    def block(self) -> int:
        """Cells per block."""
        return BLOCK if self.accelerator == "cpu" else GPU_BLOCK

    def __len__(self) -> int:
        """Number of blocks."""
        return -(-self.request.n // self.block)

    def cells(self, blocks: range, advance: Callable[[int], None]) -> GeneratedCells:
        """The cells of successive blocks; ``advance`` is called with the number of cells after each."""
        self.autoencoder.eval()
        made: list[GeneratedCells] = []
        for number in blocks:
            block = self._block(number)
            made += block
            advance(sum(map(len, block)))
        counts = sparse.vstack([cells.counts for cells in made], format="csr")
        return GeneratedCells(counts, Annotations.joined([cells.annotations for cells in made]))

    def _block(self, number: int) -> list[GeneratedCells]:
        """One block: latents of all its cells, so that the first of a larger ``n`` are those of a smaller, then counts.

        Counts are drawn piece by piece, and cut at the end, for the same reason.
        """
        for_conditions, for_cells = block_generators(self.seed, number)
        numbers = torch.arange(number * self.block, (number + 1) * self.block)
        asked, sizes = self.request.annotations(numbers, for_conditions), self.request.library_sizes(numbers)
        wanted = min(self.block, self.request.n - number * self.block)
        pieces = []
        with torch.no_grad(), tuned_cpu(self.device):
            x, for_counts = self._sample(asked.conditions, for_cells), on_device(for_cells, self.device)
            z = x[:, : self.autoencoder.latent_dim]
            library = self._generated_sizes(x, asked.conditions, for_cells, wanted) if sizes is None else sizes.to(z)
            for start in range(0, wanted, BLOCK):
                piece, kept = slice(start, start + BLOCK), slice(wanted - start)
                counts = self._counts(z[piece], library[piece], asked[piece], for_counts)
                pieces.append(GeneratedCells(counts[kept], asked[piece][kept]))
        return pieces

    def _counts(self, z: Tensor, library: Tensor, asked: Annotations, generator: torch.Generator) -> sparse.csr_matrix:
        """Counts, or their expectations, of latents (batch, latent) and library sizes (batch,)."""
        distribution = self.autoencoder.decode(z, library, asked.covariates(self.schema).to(self.device))
        if self.mean:
            return sparse.csr_matrix(distribution.mean.float().cpu().numpy())
        return distribution.sample_csr(generator)

    def _sample(self, conditions: Conditions, generator: torch.Generator) -> Tensor:
        """Latents, and in the last dimension the log library size where that is generated, (batch, dim)."""
        x = self.diffusion.sample(conditions, generator)
        if not bool(x.isfinite().all()):
            raise LatdiffError(
                "sampling diverged; raise the sampler's steps, lower the guidance scale, or train longer"
            )
        return x

    def _generated_sizes(self, x: Tensor, conditions: Conditions, generator: torch.Generator, wanted: int) -> Tensor:
        """Library sizes (batch,) of what was sampled, or of training cells of these conditions."""
        training = self.request.training
        if self.diffusion.dim > self.autoencoder.latent_dim:
            sizes, moved = _library_sizes(x[:, -1], training.library, wanted)
            if moved and "moved" not in self._said:
                self._said.add("moved")
                log.warning(
                    "generated library sizes far outside the training cells' range are moved to it (%d of %d where it "
                    "was first seen; not said again)", moved, wanted,
                )  # fmt: skip
            return sizes
        return training.library[self._alike.draw(conditions.values, len(conditions), generator)].to(x)

    @cached_property
    def _said(self) -> set[str]:
        """Warnings that were given, of which one is enough for all blocks."""
        return set()

    @cached_property
    def _alike(self) -> MatchingCells:
        """Training cells by all their conditions, for library sizes that are not generated."""
        training = self.request.training
        return MatchingCells(training, range(len(training.conditions.values)))


def block_generators(seed: int, number: int) -> tuple[torch.Generator, torch.Generator]:
    """Independent random streams of one block, one for conditions and one for cells, for any seed the user gives."""
    sequence = np.random.SeedSequence(seed % 2**64, spawn_key=(number,))
    conditions, cells = (int(state) >> 1 for state in sequence.generate_state(2, np.uint64))
    return torch.Generator().manual_seed(conditions), torch.Generator().manual_seed(cells)


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """The generator itself for a CPU; for a GPU, which draws its random numbers itself, one that it seeds."""
    if device.type == "cpu":
        return generator
    seed = torch.randint(2**63 - 1, (), generator=generator)
    return torch.Generator(device).manual_seed(int(seed))


def _library_sizes(log_library: Tensor, training: Tensor, wanted: int) -> tuple[Tensor, int]:
    """Generated library sizes (batch,), kept within e-fold of the training cells' range, and how many were outside.

    Only the first ``wanted`` are of cells that were asked for, and judged.

    Raises
    ------
    LatdiffError
        If more than one, and more than a tenth, lie outside: the diffusion then is no model of these cells.
    """
    low, high = float(training.min().log()) - 1, float(training.max().log()) + 1
    outside = int(((log_library < low) | (log_library > high))[:wanted].sum())
    if outside > max(1, wanted // 10):
        raise LatdiffError(
            f"{outside} of {wanted} generated library sizes are far outside those of the training "
            "cells: the diffusion is trained too little, or the guidance is too strong; raise "
            "training.diffusion.steps, lower the scale of diffusion.guidance, or give library sizes"
        )
    return log_library.clamp(low, high).exp(), outside
