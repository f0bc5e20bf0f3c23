"""Which of several processes this is, under torchrun, srun or Lightning's own launcher, and what its part is."""

from __future__ import annotations

import os

from latdiff_core.errors import ConfigError

LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
"""What torchrun and srun tell each process; SLURM_NTASKS is also set in a batch script, which runs alone."""


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many were started together; (0, 1) when it is alone."""
    for rank, world in LAUNCHERS:
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def is_first() -> bool:
    """Whether this process writes what all of them share; Lightning's own launcher numbers its children locally."""
    number, world = rank_and_world()
    return number == 0 and (world > 1 or int(os.environ.get("LOCAL_RANK") or 0) == 0)


def local_rank() -> int:
    """This process's number among those on this machine, which decides whose GPU is whose."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def check_world(devices: int, nodes: int) -> None:
    """Refuse to train where torchrun or srun started another number of processes than the config asks for.

    Raises
    ------
    ConfigError
        If it is another, so that each process would train a model of its own, into the same folder; or if other
        machines are asked for, which neither started.
    """
    _, started = rank_and_world()
    asked = devices * nodes
    if started == 1 and nodes > 1:
        raise ConfigError(
            f"training -> nodes is {nodes}, but this process was started alone and would wait for the other machines "
            "in vain: start it with torchrun or srun on all of them"
        )
    if started not in (1, asked):
        raise ConfigError(
            f"{started} processes were started together, but training -> devices x nodes is {asked}; set devices "
            "(of each machine, --devices) and nodes (--nodes) so that their product is the number of processes"
        )


def place_in_training() -> tuple[int, int]:
    """Which of how many processes that train together this is; (0, 1) when it trains alone."""
    from torch import distributed

    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def batch_share(cells: list[int]) -> list[int]:
    """The part of a batch that this process trains on; all of it if there are fewer cells than processes."""
    rank, world = place_in_training()
    return cells[rank::world] or cells


def wait_for_all() -> None:
    """Return when every process that trains together has come here."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
