"""Checkpoints of a stage: written now and then while it trains, with all that is needed to go on."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint

from latdiff_core.errors import RunFolderError

SECONDS_BETWEEN = 30.0
"""An interruption loses at most so much and an epoch. A checkpoint is five times the weights: of pbmc3k
140 MB, or a sixth of an epoch of stage 1 on one thread, and many epochs on a GPU."""


class RegularCheckpoint(Checkpoint):
    """Writes a checkpoint after the first epoch, the last, and any that ends half a minute or more after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = -math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        due = is_last or time.monotonic() - self.written >= SECONDS_BETWEEN
        if trainer.strategy.broadcast(due):  # all processes write together, when the first one says so
            trainer.save_checkpoint(self.path)
            self.written = time.monotonic()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint, on the CPU; a damaged file is a RunFolderError."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise RunFolderError(f"{path} is damaged; remove {path.parent.parent} and fit again ({error})") from error
    return checkpoint
