"""What is kept of a stage while it trains: the best weights, and now and then all that is needed to go on."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from latdiff_core.errors import RunFolderError

SECONDS_BETWEEN = 30.0
"""The most work that an interruption loses, if an epoch is no longer. A checkpoint is five times the weights: of pbmc3k
140 MB, or a sixth of an epoch of stage 1 on one thread, and many epochs on a GPU."""


class BestWeights(Callback):
    """Holds the weights of the epoch with the lowest held-out loss, in memory and in every checkpoint.

    It must come before Lightning's ``WeightAveraging``, which puts the averages into the model only while held-out
    cells are looked at.
    """

    def __init__(self) -> None:
        self.loss = math.inf
        self.weights: dict[str, Tensor] = {}
        self.looked_at: dict[str, Tensor] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.looked_at = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.loss:
            self.loss, self.weights = loss, self.looked_at
        self.looked_at = {}

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.weights = state_dict["loss"], state_dict["weights"]


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
