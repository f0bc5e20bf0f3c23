"""Checkpoints of a fit: written now and then while a stage trains, taken up only for the same data and config."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import Checkpoint

from latdiff_core.configs import ModelConfig, dump_config
from latdiff_core.errors import OutputExistsError, RunFolderError
from latdiff_core.paths import worked_in_alone
from latdiff_core.run_folder import CHECKPOINTS, FORMAT, listed, used_versions

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 30.0
"""An interruption loses at most so much and an epoch. A checkpoint is five times the weights: of pbmc3k
140 MB, or a sixth of an epoch of stage 1 on one thread, and many epochs on a GPU."""


@contextmanager
def open_checkpoints(folder: Path, config: ModelConfig, data: str, on_disk: bool, resume: bool) -> Iterator[None]:
    """Begin a checkpoint folder, or check that the one there belongs to this fit; no other process may train in it.

    Raises
    ------
    OutputExistsError
        If the folder holds checkpoints and ``resume`` is not given, or another process trains in it.
    RunFolderError
        If there is nothing to resume, or it belongs to other data, another config or another version of latdiff, or was
        begun in memory and would go on from disk (or the reverse), where cells are shuffled differently.
    """
    versions = used_versions(config)
    now = {"format": FORMAT, "config": dump_config(config), "data": data, "on_disk": on_disk, "versions": versions}
    run = folder / CHECKPOINTS
    if resume and not run.is_file():
        raise RunFolderError(f"{folder} holds no checkpoints to resume from; fit without resuming")
    with worked_in_alone(folder):
        if resume:
            _check_same_fit(run, now)
        elif run.exists():
            raise OutputExistsError(
                f"{folder} holds the checkpoints of an interrupted fit; resume it (--resume, in Python resume=True), "
                "or remove the folder to begin anew"
            )
        else:
            run.write_text(json.dumps(now))
        yield


def _check_same_fit(run: Path, now: dict[str, Any]) -> None:
    """Refuse to go on with a fit that was begun differently; say so where versions differ."""
    folder = run.parent
    try:
        before = json.loads(run.read_text())
    except ValueError:
        raise RunFolderError(f"{run} is damaged; remove {folder} and fit again") from None
    if before.get("format") != FORMAT:
        raise RunFolderError(f"the checkpoints in {folder} are of another version of latdiff; remove it and fit again")
    fields = _differing(*(yaml.safe_load(str(of.get("config"))) for of in (before, now)))
    for what, said in (
        ("config", f"with another config ({', '.join(fields[:5])})"),
        ("data", "on other training data"),
        ("on_disk", "with another way of reading them (on_disk)"),
    ):
        if before.get(what) != now[what]:
            raise RunFolderError(
                f"the checkpoints in {folder} were begun {said}; repeat the fit exactly as it was begun, or remove the "
                "folder to begin anew"
            )

    if (begun := before.get("versions")) not in (None, now["versions"]):
        log.warning("the fit was begun with %s and goes on with %s", listed(begun), listed(now["versions"]))


def _differing(before: Any, now: Any, at: str = "") -> list[str]:
    """Dotted paths of the fields in which two configs differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [path for key in keys for path in _differing(before.get(key), now.get(key), f"{at}.{key}".lstrip("."))]
    return [] if before == now else [at]


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
