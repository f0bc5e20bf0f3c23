"""Shuffling of cells that stay on disk: whole blocks of the file in random order, and the cells within a buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset, Sampler

from latdiff_core.ranks import place_in_training
from latdiff_core.training.batches import CellBatch, CellData

BLOCK = 64
"""Neighbouring cells of the file that are read together."""
BUFFER = 16_384
"""Cells that are in memory and shuffled among themselves."""


@dataclass(frozen=True)
class BufferedBatch:
    """A batch, and the cells that are read together with it.

    Attributes
    ----------
    buffer
        Indices of the cells to read, ascending; the same array for all batches of one buffer.
    rows
        Which of those are the batch.
    """

    buffer: np.ndarray
    rows: np.ndarray


class BlockShuffled(Sampler[BufferedBatch]):
    """Batches of cells that are read block by block; one pass over the cells, every cell once.

    Blocks of neighbouring cells come in random order, and the cells of as many blocks as a buffer holds are shuffled.
    A batch of data sorted by a label so has a composition with variance p (1 - p) (1 / batch + block / buffer) instead
    of p (1 - p) / batch. The order is a function of the seed and the epoch alone, so that a resumed run sees the same.

    Parameters
    ----------
    cells
        Indices of the cells, ascending.
    batch_size
        Cells per batch of all ranks together.
    seed
        Seed of the order.
    place
        Tells which of how many processes this is, asked whenever a pass begins: each reads a share of the blocks in as
        many batches of ``batch_size // world`` cells. The last may be smaller.
    block, buffer
        Cells per block, and cells in memory at a time.
    """

    def __init__(
        self,
        cells: np.ndarray,
        batch_size: int,
        seed: int,
        place: Callable[[], tuple[int, int]] = place_in_training,
        block: int = BLOCK,
        buffer: int = BUFFER,
    ) -> None:
        self.cells, self.batch_size, self.seed, self.place = cells, batch_size, seed, place
        self.block, self.buffer = block, buffer
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._batches(self.place()[1])

    def __iter__(self) -> Iterator[BufferedBatch]:
        rank, world = self.place()
        size, batches = self._size(world), self._batches(world)
        rng = np.random.default_rng((self.seed, self.epoch))
        share = self._share(rng, rank, world)
        steps = np.arange(batches + 1)
        edges = np.minimum(steps * size, len(share) + steps - batches)  # one cell at least is left for each
        together = max(1, self.buffer // size)  # batches per buffer
        for first in range(0, batches, together):
            inside = edges[first : first + together + 1]
            buffer = np.sort(share[inside[0] : inside[-1]])
            order = rng.permutation(len(buffer))
            for rows in np.split(order, inside[1:-1] - inside[0]):
                yield BufferedBatch(buffer, rows)

    def _size(self, world: int) -> int:
        """Cells of one process in a batch."""
        return max(1, self.batch_size // world)

    def _batches(self, world: int) -> int:
        """Batches of one pass, as many for every process."""
        largest_share = -(-len(self.cells) // world)
        return -(-largest_share // self._size(world))

    def _share(self, rng: np.random.Generator, rank: int, world: int) -> np.ndarray:
        """The cells of this rank, block after block; where blocks begin differs from epoch to epoch."""
        block = (self.cells + rng.integers(self.block)) // self.block
        blocks = np.split(self.cells, np.flatnonzero(np.diff(block)) + 1)
        order = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
        share = order[rank * len(order) // world : (rank + 1) * len(order) // world]
        # With one cell a batch, a share that is smaller by one has a batch too few: its last cell comes twice.
        return np.append(share, share[-1:]) if len(share) < self._batches(world) else share


class BufferedCells(Dataset[CellBatch]):
    """Cells on disk of which the buffer of a batch is read when its first batch is asked for."""

    def __init__(self, cells: CellData) -> None:
        self.cells = cells
        self.buffer: np.ndarray | None = None
        self.loaded = cells

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, batch: BufferedBatch) -> CellBatch:
        if self.buffer is not batch.buffer:
            del self.loaded  # before the next comes
            self.buffer, self.loaded = batch.buffer, self.cells.subset(batch.buffer)
        return self.loaded[batch.rows.tolist()]
