"""The order in which cells on disk are read: every cell once, repeatable, shared among ranks, and well mixed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from latdiff_core.training.block_shuffle import BlockShuffled, BufferedBatch

TRAIN = np.flatnonzero(np.random.default_rng(0).random(20_000) < 0.9)
"""Training cells among others that are held out."""


def epoch(number: int = 0, seed: int = 0, cells: np.ndarray = TRAIN, size: int = 128, **settings) -> list[np.ndarray]:
    """The cells of every batch of an epoch."""
    place = settings.pop("rank", 0), settings.pop("world", 1)
    sampler = BlockShuffled(cells, size, seed, lambda: place, **settings)
    sampler.set_epoch(number)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(isinstance(batch, BufferedBatch) and len(batch.rows) for batch in batches)
    return [batch.buffer[batch.rows] for batch in batches]


def test_an_epoch_has_every_training_cell_once_and_no_other():
    batches = epoch(buffer=1000)
    assert {len(batch) for batch in batches[:-1]} == {128}
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), TRAIN)


def test_the_order_is_a_function_of_seed_and_epoch():
    first = np.concatenate(epoch(3, seed=5))
    np.testing.assert_array_equal(first, np.concatenate(epoch(3, seed=5)))
    for other in (epoch(4, seed=5), epoch(3, seed=6)):
        assert (first == np.concatenate(other)).mean() < 0.01


def test_cells_that_share_a_buffer_in_one_epoch_are_apart_in_the_next():
    def buffers(number: int) -> np.ndarray:
        place = np.empty(20_000, dtype=np.int64)
        place[np.concatenate(epoch(number, buffer=2048))] = np.arange(len(TRAIN)) // 2048
        return place[TRAIN]

    before, after = buffers(0), buffers(1)
    table = np.zeros((9, 9))
    np.add.at(table, (before, after), 1)
    share = table / table.sum(1, keepdims=True)
    assert np.abs(share[:8, :8] - 2048 / len(TRAIN)).max() < 0.12, "buffers keep together what they held before"


def test_a_buffer_is_a_few_whole_blocks_of_the_file():
    sampler = BlockShuffled(np.arange(20_000), 128, seed=0, block=64, buffer=2048)
    buffers = {id(batch.buffer): batch.buffer for batch in list(sampler)}
    assert len(buffers) == 10
    for buffer in buffers.values():
        assert len(buffer) <= 2048
        readings = 1 + (np.diff(buffer) > 1).sum()
        assert readings <= 2048 / 64 + 2


def composition_p_value(batches: list[np.ndarray], labels: np.ndarray) -> float:
    """Whether the labels in batches vary as in draws without replacement: chi-square of a hypergeometric's variance."""
    cells, drawn = sum(map(len, batches)), len(batches[0])
    found = np.array([[(labels[batch] == label).sum() for label in (0, 1, 2, 3)] for batch in batches[:-1]])
    share = np.bincount(labels[np.concatenate(batches)]) / cells
    variance = drawn * share * (1 - share) * (cells - drawn) / (cells - 1)
    statistic = ((found - drawn * share) ** 2 / variance).sum() * 3 / 4  # four counts with a fixed sum: three are free
    return float(stats.chi2.sf(statistic, 3 * len(found)))


def test_batches_of_sorted_data_are_mixed_like_random_ones_when_the_buffer_holds_all():
    labels = np.sort(np.random.default_rng(1).choice(4, len(TRAIN), p=[0.4, 0.3, 0.2, 0.1]))
    everywhere = np.zeros(20_000, dtype=np.int64)
    everywhere[TRAIN] = labels
    p_values = [composition_p_value(epoch(e, buffer=20_000), everywhere) for e in range(10)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_batches_of_sorted_data_vary_as_much_as_blocks_and_buffer_say():
    cells, size, block, buffer = np.arange(200_000), 100, 64, 16_384
    label = cells < 80_000
    shares = np.array([label[batch].mean() for e in range(3) for batch in epoch(e, cells=cells, size=size)])
    expected = 0.4 * 0.6 * (1 / size + block / buffer)
    assert np.var(shares) == pytest.approx(expected, rel=0.2)
    assert np.mean(shares) == pytest.approx(0.4, abs=0.005)


@pytest.mark.parametrize(("cells", "size", "world"), [(TRAIN, 128, 4), (np.arange(1001), 30, 3), (np.arange(11), 4, 2)])
def test_ranks_share_the_cells_in_equally_many_batches(cells, size, world):
    ranks = [epoch(2, cells=cells, size=size, buffer=1000, rank=rank, world=world) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert {len(batch) for batches in ranks for batch in batches[:-2]} <= {size // world}
    np.testing.assert_array_equal(np.sort(np.concatenate([cell for batches in ranks for cell in batches])), cells)


def test_no_batch_is_empty_where_a_rank_has_one_cell_of_each():
    """A rank without cells has no loss, and all others would wait for it; epoch() refuses empty batches."""
    ranks = [epoch(cells=np.arange(11), size=2, rank=rank, world=2) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [6, 6]
    assert set(np.concatenate(ranks[0]).tolist()) | set(np.concatenate(ranks[1]).tolist()) == set(range(11))


def test_each_rank_reads_blocks_of_its_own():
    ranks = [np.concatenate(epoch(cells=np.arange(20_000), rank=rank, world=4)) for rank in range(4)]
    touched = [np.unique(cells // 64) for cells in ranks]
    assert sum(map(len, touched)) < 2.2 * 20_000 / 64, "a block lies in at most two of the file's stretches of 64 cells"
