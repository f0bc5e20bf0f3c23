"""Runs one stage on a Lightning trainer: checkpoints, resuming, the kept weights at the end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import StrategyRegistry
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

from latdiff_core.configs import TrainingConfig
from latdiff_core.device import uses_gpu
from latdiff_core.errors import ConfigError, RunFolderError, TrainingDiverged, known
from latdiff_core.ranks import is_first
from latdiff_core.training.callbacks import History, SeedEpochs, StageProgress
from latdiff_core.training.checkpoints import RegularCheckpoint, read_checkpoint
from latdiff_core.training.kept_weights import KeptWeights
from latdiff_core.training.modules import Stage


def check_strategy(name: str) -> None:
    """Raise ConfigError for a strategy that Lightning does not have, before anything is begun."""
    names = ["auto", *StrategyRegistry.available_strategies()]
    if name not in names:
        raise ConfigError(f"training -> strategy is {name!r}; {known(names, name)}")


def run_stage(
    stage: Stage,
    title: str,
    train: DataLoader[Any],
    validation: DataLoader[Any] | None,
    *,
    config: TrainingConfig,
    epochs: int,
    ema_decay: float,
    folder: Path,
    progress: bool,
) -> list[dict[str, float]]:
    """Train until ``epochs``, from the last checkpoint in ``folder`` if there is one; return the metrics of each epoch.

    Afterwards the model holds the weights of the epoch with the lowest validation loss (averaged weights where
    ``ema_decay`` is not 0), or the last ones without validation.

    Raises
    ------
    KeyboardInterrupt
        At Ctrl-C; after the first epoch ``folder`` holds a checkpoint, at most half a minute and an epoch old.
    RunFolderError
        If the checkpoint in ``folder`` is damaged or of another version.
    TrainingDiverged
        If a loss is no number any more.
    """
    last, history, kept = folder / "last.ckpt", History(), KeptWeights(ema_decay)
    callbacks: list[Callback] = [SeedEpochs(config.seed), history, kept, RegularCheckpoint(last)]
    if progress and is_first():
        callbacks.append(StageProgress(title))
    with warnings.catch_warnings(), _quiet_lightning():
        # Lightning's advice on workers, loggers and schedulers is addressed to authors of training scripts.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        trainer = pl.Trainer(
            accelerator="cuda" if uses_gpu(config.accelerator) else "cpu",
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
            precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            use_distributed_sampler=False,  # ours share out the batches
        )
        try:
            resume = str(last) if last.is_file() else None
            if resume:
                _callback_states(last, kept)  # a checkpoint that cannot be used is found before anything is changed
            trainer.fit(stage, train, validation, ckpt_path=resume, weights_only=True)
        except ProcessRaisedException as error:  # of a process that was forked or spawned for the training
            name, _, text = str(error).strip().splitlines()[-1].partition(": ")
            if not name.endswith(TrainingDiverged.__name__):
                raise
            raise TrainingDiverged(text) from None
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt(f"{title} training was interrupted in epoch {trainer.current_epoch}") from error
    if not history.rows:  # trained in processes of their own (ddp_fork, ddp_spawn), of which a checkpoint is left
        left = _callback_states(last, kept)
        history.load_state_dict(left[history.state_key])
        kept.load_state_dict(left[kept.state_key])
    stage.load_state_dict(kept.weights, strict=False)
    stage.model.eval().requires_grad_(False)
    return history.rows


def _callback_states(path: Path, kept: KeptWeights) -> dict[str, dict[str, Any]]:
    """What the callbacks wrote into a checkpoint; one that lacks the kept weights is a RunFolderError."""
    states: dict[str, dict[str, Any]] = read_checkpoint(path).get("callbacks", {})
    if kept.state_key not in states:
        raise RunFolderError(f"{path} is of another version of latdiff; remove {path.parent.parent} and fit again")
    return states


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without its lines on devices, processes and tips."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
