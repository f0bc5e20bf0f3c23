"""The models that `speed.py` trains, latdiff's and scvi-tools', of the same widths, latent and batch."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from latdiff_core.assembly import build_autoencoder
from latdiff_core.conditions import Annotations
from latdiff_core.configs import ModelConfig, recipe_config
from latdiff_core.cpu import tuned_cpu
from latdiff_core.data import annotation_table, build_schema, encode_obs, gene_statistics, raw_counts
from latdiff_core.device import chosen_device
from latdiff_core.training.batches import CellBatch, CellData, Shuffled, loader
from latdiff_core.training.modules import AutoencoderStage, clip_gradients, let_sizes_differ
from latdiff_core.training.stage import run_stage

HIDDEN, LATENT, BATCH, LEARNING_RATE = 256, 32, 128, 1e-3
NB = {
    "autoencoder.latent_dim": LATENT,
    "autoencoder.encoder": {"kind": "mlp", "hidden": [HIDDEN, HIDDEN]},
    "autoencoder.decoder": {"kind": "negative_binomial", "hidden": [HIDDEN, HIDDEN], "dropout": 0.0},
    "training.autoencoder": {"batch_size": BATCH, "learning_rate": LEARNING_RATE},
}
"""Two hidden layers on both sides, and dropout in the encoder alone, as scvi-tools' model below has them."""


class Stage1:
    """Stage 1 ready to be trained for any number of epochs, over again."""

    def __init__(self, cells: anndata.AnnData, overrides: dict[str, Any], label: str = "cell_type") -> None:
        self.config: ModelConfig = recipe_config("default", [label], overrides)
        self.counts = raw_counts(cells)
        table = annotation_table(cells, [label])
        self.schema = build_schema(cells.var_names, table, self.config.data)
        annotations = Annotations(encode_obs(table, self.schema.attributes), encode_obs(table, self.schema.nuisance))
        self.data = CellData(self.counts, annotations, self.schema)
        self.statistics = gene_statistics(self.counts, np.arange(cells.n_obs))

    def build(self) -> Any:
        """The autoencoder with its first weights."""
        torch.manual_seed(0)
        return build_autoencoder(self.config, self.schema, self.statistics)

    def stage(self, model: Any) -> AutoencoderStage:
        """What a trainer trains."""
        training = self.config.training
        return AutoencoderStage(model, training.autoencoder, cells=len(self.data), compiled=training.compile)

    def train(self, epochs: int) -> float:
        """Seconds of so many epochs."""
        section, stage = self.config.training.autoencoder, self.stage(self.build())
        with tempfile.TemporaryDirectory() as folder, tuned_cpu(chosen_device(self.config.training.accelerator)):
            start = time.perf_counter()
            run_stage(
                stage, "stage 1", loader(self.data, Shuffled(len(self.data), section.batch_size, 0)), None,
                config=self.config.training, epochs=epochs, ema_decay=0.0,
                folder=Path(folder), progress=False,
            )  # fmt: skip
            return time.perf_counter() - start


def objective(stage: AutoencoderStage, batches: Iterable[CellBatch]) -> Callable[[], Tensor]:
    """The loss of the next of some batches, over again, computed as the trainer has it computed."""
    stage.setup("fit")
    weight, following = torch.tensor(stage.config.kl_weight, device=stage.device), cycle(batches)

    def of_next() -> Tensor:
        batch = next(following)
        if stage.compiled:
            let_sizes_differ(batch)
        loss: Tensor = stage.objective(batch.counts, batch.covariates, weight)[0]
        return loss

    return of_next


def training_step(model: nn.Module, loss: Callable[[], Tensor], clip: float) -> Callable[[], None]:
    """One step on a loss, as the trainer makes it."""
    optimizer = AdamW(model.parameters(), LEARNING_RATE, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        clip_gradients(model.parameters(), clip)
        optimizer.step()

    return step


def scvi_stage1(cells: anndata.AnnData, accelerator: str) -> Callable[[int], float]:
    """The same of scvi-tools' SCVI: seconds of so many epochs of a new model."""
    warnings.simplefilter("ignore")
    import logging

    import scvi

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = anndata.AnnData(cells.X.copy(), obs=cells.obs[[]], var=cells.var[[]])
    scvi.model.SCVI.setup_anndata(data)

    def train(epochs: int) -> float:
        scvi.settings.seed = 0
        model = scvi.model.SCVI(data, n_hidden=HIDDEN, n_layers=2, n_latent=LATENT, gene_likelihood="nb")
        start = time.perf_counter()
        model.train(
            epochs, accelerator=accelerator, batch_size=BATCH, train_size=1.0, enable_progress_bar=False, logger=False,
            enable_checkpointing=False, plan_kwargs={"lr": LEARNING_RATE},
        )  # fmt: skip
        return time.perf_counter() - start

    return train


def cells_per_second(train: Callable[[int], float], cells: int, epochs: int, repeats: int = 3) -> float:
    """Median over repeats, from the difference of a long and a short training: what both do once cancels.

    That is set-up, and here a checkpoint after the first epoch and one after the last.
    """
    train(1)
    rates = [cells * epochs / (train(2 + epochs) - train(2)) for _ in range(repeats)]
    return float(np.median(rates))
