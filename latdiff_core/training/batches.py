"""Minibatches: seeded shuffling by epoch, and the two data sets that training reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.counts import CountBatch
from latdiff_core.data import Counts
from latdiff_core.device import moved
from latdiff_core.interfaces import Covariates
from latdiff_core.ranks import batch_share
from latdiff_core.schema import DataSchema

Batch = TypeVar("Batch")


class Shuffled(Sampler[list[int]]):
    """Batches of shuffled indices, a function of the seed and the epoch alone, so that a resumed run sees the same.

    Where several processes train together, each draws its own part of every batch.

    With ``batches`` an epoch has that many full batches, drawn from as many shuffles as it takes; otherwise it is one
    pass.
    """

    def __init__(self, n: int, batch_size: int, seed: int, batches: int | None = None) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.batches = batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches or -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
        needed = len(self) * self.batch_size if self.batches else self.n
        shuffles = [torch.randperm(self.n, generator=generator) for _ in range(-(-needed // self.n))]
        order = torch.cat(shuffles)[:needed].tolist()
        for start in range(0, needed, self.batch_size):
            yield batch_share(order[start : start + self.batch_size])


class InOrder(Sampler[list[int]]):
    """Consecutive batches, for validation and encoding."""

    def __init__(self, n: int, batch_size: int) -> None:
        self.n, self.batch_size = n, batch_size

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.n, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.n)))


@dataclass(frozen=True)
class CellBatch:
    """What stage 1 reads of a batch of cells."""

    counts: CountBatch
    covariates: Covariates

    def __len__(self) -> int:
        return len(self.counts)

    def to(self, device: torch.device | str) -> CellBatch:
        """Move to a device."""
        return CellBatch(self.counts.to(device), self.covariates.to(device))


class CellData(Dataset[CellBatch]):
    """Counts and annotations of which a list of indices selects a ``CellBatch``."""

    def __init__(self, counts: Counts, annotations: Annotations, schema: DataSchema) -> None:
        self.counts = counts
        self.annotations = annotations
        self.schema = schema

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, cells: list[int]) -> CellBatch:
        annotations = self.annotations[torch.as_tensor(cells, dtype=torch.int64)]
        return CellBatch(CountBatch.from_csr(self.counts[np.asarray(cells)]), annotations.covariates(self.schema))

    def subset(self, cells: np.ndarray) -> CellData:
        """The same of some of the cells, in memory."""
        return CellData(self.counts[cells], self.annotations[torch.as_tensor(cells)], self.schema)


@dataclass(frozen=True)
class LatentBatch:
    """Posteriors of cells, from which stage 2 draws what it diffuses.

    Attributes
    ----------
    loc, scale
        Mean and standard deviation of each dimension, (batch, dim); the log library size has scale 0.
    conditions
        Condition values of the cells.
    """

    loc: Tensor
    scale: Tensor
    conditions: Conditions

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One posterior sample per cell, (batch, dim)."""
        noise = moved(torch.randn(self.loc.shape, generator=generator), self.loc.device)
        return self.loc + self.scale * noise.to(self.loc.dtype)

    def to(self, device: torch.device | str) -> LatentBatch:
        """Move to a device."""
        return LatentBatch(moved(self.loc, device), moved(self.scale, device), self.conditions.to(device))


class LatentData(Dataset[LatentBatch]):
    """Cached posteriors of which a list of indices selects a ``LatentBatch``."""

    def __init__(self, cells: LatentBatch) -> None:
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells.loc)

    def __getitem__(self, cells: list[int]) -> LatentBatch:
        index = torch.as_tensor(cells, dtype=torch.int64)
        return LatentBatch(self.cells.loc[index], self.cells.scale[index], self.cells.conditions[index])


def loader(data: Dataset[Batch], sampler: Sampler[Any]) -> DataLoader[Batch]:
    """A loader whose sampler yields whole batches.

    It has a generator of its own: starting an epoch would otherwise draw from the global one, before or after that is
    seeded for the epoch, and a resumed run would not repeat an uninterrupted one.
    """
    return DataLoader(data, sampler=sampler, batch_size=None, generator=torch.Generator())
