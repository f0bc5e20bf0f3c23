"""Which of several processes this is, under torchrun, srun or Lightning's own launcher, and what its part is."""

from __future__ import annotations

import os

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
WORLDS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Not SLURM_NTASKS, which is set also where no srun has started the other tasks."""


def rank() -> int:
    """Number of this process among those that work together, from 0: the first one writes what all share."""
    return _first(RANKS, 0)


def world() -> int:
    """How many processes work together."""
    return _first(WORLDS, 1)


def batch_share(cells: list[int]) -> list[int]:
    """The part of a batch that this process trains on; all of it if there are fewer cells than processes."""
    from torch import distributed

    if not distributed.is_available() or not distributed.is_initialized():
        return cells
    return cells[distributed.get_rank() :: distributed.get_world_size()] or cells


def wait_for_all() -> None:
    """Return when every process that trains together has come here."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def _first(names: tuple[str, ...], otherwise: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), otherwise)
