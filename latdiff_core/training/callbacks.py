"""What watches training: the history of the metrics, the progress bar, the per-epoch seed."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from latdiff_core.errors import TrainingDiverged


class History(Callback):
    """Collects the metrics of every epoch, and stops training when one is no longer a number."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
        if bad := [name for name, value in metrics.items() if not torch.tensor(value).isfinite()]:
            raise TrainingDiverged(
                f"training diverged in epoch {trainer.current_epoch}: {', '.join(bad)} is not a finite number; "
                "lower the learning_rate of this stage, or look for outlier cells with extreme library sizes"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class SeedEpochs(Callback):
    """Seeds each epoch by its number, so that a resumed run repeats what an uninterrupted one would have done."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(self.seed + 1_000_003 * (trainer.current_epoch + 1) + 7919 * trainer.global_rank)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(self.seed)  # the same noise at every epoch, so that their losses compare


class StageProgress(Callback):
    """One bar over all steps of a stage, with the newest validation loss."""

    def __init__(self, title: str) -> None:
        self.bar = Progress(
            TextColumn(f"{title:<11}"), BarColumn(), TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.start()
        total = int(trainer.estimated_stepping_batches)
        self.task = self.bar.add_task("", total=total, completed=trainer.global_step, note="")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.bar.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        name = "val_loss" if "val_loss" in metrics else next(iter(metrics), "")
        self.bar.update(self.task, note=f"{name} {float(metrics[name]):.4g}" if name else "")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.bar.stop()
