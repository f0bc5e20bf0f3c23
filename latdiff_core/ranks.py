"""Which of the processes that were started together this one is."""

from __future__ import annotations

import os

LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
"""What torchrun and srun tell each process; SLURM_NTASKS is also set in a batch script, which runs alone."""


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many were started together; (0, 1) when it is alone."""
    for rank, world in LAUNCHERS:
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1
