"""The two Lightning modules, one generic wrapper per stage; the networks stay plain ``nn.Module``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from latdiff_core.autoencoder import CountAutoencoder, Elbo
from latdiff_core.conditions import Conditions
from latdiff_core.configs import AutoencoderTraining, DiffusionTraining
from latdiff_core.counts import CountBatch
from latdiff_core.diffusion import Diffusion, NoiseDraw
from latdiff_core.interfaces import Covariates
from latdiff_core.training.batches import CellBatch, LatentBatch

VALIDATION_DRAWS = 8
"""Fixed noise draws per validation latent: the loss of one draw is too noisy to compare checkpoints by."""


class Stage(pl.LightningModule):
    """What both stages share: AdamW under warm-up and cosine decay, and a loss that can be compiled."""

    objective: Callable[..., Any]
    """What a training step computes of its batch, from which gradients flow."""
    compile_options: ClassVar[Mapping[str, Any]] = {}
    """How `torch.compile` is to take it."""

    def __init__(
        self, model: nn.Module, config: AutoencoderTraining | DiffusionTraining, warmup: float, compiled: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.compiled = compiled
        self.learning_rate, self.weight_decay, self.warmup = config.learning_rate, config.weight_decay, warmup
        self.gradient_clip = config.gradient_clip
        self.steps = 0
        """Of the whole training, known when it begins."""
        self.cells_seen = 0
        self.sums: dict[str, Tensor | float] = {}

    def setup(self, stage: str) -> None:
        """Compile in the process that trains."""
        if self.compiled:
            self.objective = torch.compile(self.objective, **self.compile_options)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip here: Lightning refuses to where a fused optimiser meets autocast."""
        clip_gradients(self.parameters(), self.gradient_clip)

    def log_mean(self, cells: int, **values: Tensor) -> None:
        """Collect values of a training batch; their means over the epoch are logged with its last one."""
        # Lightning's own means cost milliseconds per value and step.
        self.cells_seen += cells
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + cells * value.detach()
        if self.trainer.is_last_batch:
            means = {name: total / self.cells_seen for name, total in self.sums.items()}
            self.log_dict(means, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
            self.cells_seen, self.sums = 0, {}

    def configure_optimizers(self) -> Any:
        optimizer = AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True)
        self.steps = int(self.trainer.estimated_stepping_batches)
        factor = warmup_cosine(self.steps, round(self.warmup * self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


class AutoencoderStage(Stage):
    """Stage 1: the negative ELBO in nats per gene, its KL weight rising from 0, and each cell's share of the prior."""

    model: CountAutoencoder

    def __init__(
        self, model: CountAutoencoder, config: AutoencoderTraining, cells: int, compiled: bool = False
    ) -> None:
        super().__init__(model, config, warmup=0.0, compiled=compiled)
        self.config = config
        self.cells = cells

    def objective(self, counts: CountBatch, covariates: Covariates, kl_weight: Tensor) -> tuple[Tensor, Elbo]:
        elbo = self.model.elbo(counts, covariates, kl_weight, self.config.free_bits)
        return (elbo.loss - self.model.decoder.log_prior() / self.cells) / counts.genes, elbo

    def training_step(self, batch: CellBatch, index: int) -> Tensor:
        if self.compiled:
            let_sizes_differ(batch)
        kl_weight = torch.full((), self.kl_weight(), device=self.device)  # a number would be compiled as it is
        loss, elbo = self.objective(batch.counts, batch.covariates, kl_weight)
        self.log_mean(len(batch), train_nll=elbo.nll, train_kl=elbo.kl.sum())
        return loss

    def validation_step(self, batch: CellBatch, index: int) -> None:
        elbo = self.model.elbo(batch.counts, batch.covariates, self.config.kl_weight)
        values = {"val_nll": elbo.nll, "val_kl": elbo.kl.sum(), "val_loss": elbo.loss}
        self.log_dict(values, batch_size=len(batch), sync_dist=True)

    def kl_weight(self) -> float:
        """The KL weight at the current step, linear up to the configured one."""
        rising = self.config.kl_warmup * self.steps
        return self.config.kl_weight * (min(1.0, self.global_step / rising) if rising else 1.0)


class DiffusionStage(Stage):
    """Stage 2: the denoising loss on fresh posterior samples of the cached posteriors."""

    model: Diffusion
    compile_options: ClassVar = {"mode": "reduce-overhead"}
    """Batches are alike, so that what a GPU is asked for can be recorded once and repeated."""

    def __init__(self, model: Diffusion, config: DiffusionTraining, seed: int, compiled: bool = False) -> None:
        super().__init__(model, config, config.warmup, compiled)
        self.seed = seed

    def objective(self, latents: Tensor, conditions: Conditions, draw: NoiseDraw) -> Tensor:
        return self.model.loss(self.model.standardiser(latents), conditions, draw).mean()

    def training_step(self, batch: LatentBatch, index: int) -> Tensor:
        draw = self.model.draw(batch.conditions).to(self.device)
        loss = self.objective(batch.sample(), batch.conditions, draw)
        self.log_mean(len(batch.loc), train_loss=loss)
        return loss

    def validation_step(self, batch: LatentBatch, index: int) -> None:
        generator = torch.Generator().manual_seed(self.seed + index)  # the same noise and times at every check
        losses = []
        for _ in range(VALIDATION_DRAWS):
            x = self.model.standardiser(batch.sample(generator))
            draw = self.model.draw(batch.conditions, generator)
            everything = NoiseDraw(draw.t, draw.eps, torch.ones_like(draw.keep)).to(self.device)
            losses.append(self.model.loss(x, batch.conditions, everything).mean())
        self.log("val_loss", torch.stack(losses).mean(), batch_size=len(batch.loc), sync_dist=True)


def let_sizes_differ(batch: CellBatch) -> None:
    """Say that another batch has other numbers of cells and stored entries: `torch.compile` is to take any.

    What counts remember of themselves is computed here; Python 3.11 locks while it is, which cannot be compiled.
    """
    counts, covariates = batch.counts, batch.covariates
    stored = (counts.indptr, counts.indices, counts.values, counts.rows, counts.positions, counts.library)
    for part in (*stored, covariates.nuisance, covariates.condition):
        torch._dynamo.maybe_mark_dynamic(part, 0)


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale the gradients so that their norm, all taken together, is at most ``largest``.

    Where it is less, as nearly always, a CPU is spared the multiplication by one (2 ms of a step of 115 ms); a GPU,
    which would have to be waited for, is not.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    if norm.device.type != "cpu" or not norm <= largest:  # NaN too, which then is in all of them, as on a GPU
        torch._foreach_mul_(gradients, (largest / norm).clamp(max=1.0))


class warmup_cosine:
    """Learning-rate factor: linear from 0 over ``warmup`` steps, then a half cosine to 0 at ``total``."""

    def __init__(self, total: int, warmup: int) -> None:
        self.total, self.warmup = total, warmup

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))))
