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
from latdiff_core.interfaces import Covariates, PrincipalComponents
from latdiff_core.training.batches import CellBatch, LatentBatch
from latdiff_core.training.spread import Spread

VALIDATION_DRAWS = 8
"""Fixed noise draws per validation latent: the loss of one draw is too noisy to compare checkpoints by."""
SPREAD_BATCHES = 4
"""Of validation cells whose reconstructions are drawn, at every check."""
KL_WEIGHT_RATE = 200.0
"""Change of the log of the KL weight over a whole training in which log variances are one off; at most 1 per check."""


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
    """Stage 1: the negative ELBO in nats per gene, its KL weight rising from 0, and each cell's share of the prior.

    Where a latent can follow the noise of its cell, as on small panels of genes with many counts, and is cheap, decoded
    cells have that noise twice. With ``largest_kl_weight`` and the ``components`` of the training cells, reconstructed
    validation cells are compared with what they are reconstructions of, and the weight moves, from ``kl_weight`` up to
    the largest, with the log of the ratio of their variances, less its standard error: feedback on the weight as of
    Rezende & Viola 2018 (arXiv:1810.00597), for another constraint.
    """

    model: CountAutoencoder

    def __init__(
        self,
        model: CountAutoencoder,
        config: AutoencoderTraining,
        cells: int,
        components: PrincipalComponents | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__(model, config, warmup=0.0, compiled=compiled)
        self.config = config
        self.cells = cells
        compared = config.largest_kl_weight is not None and model.decoder.generates == "counts"
        self.components = components if compared else None
        self.spread: Spread | None = None
        self.final_kl_weight = config.kl_weight
        self.lowest_loss = math.inf
        """On validation cells, with that weight."""

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
        elbo = self.model.elbo(batch.counts, batch.covariates, self.final_kl_weight)
        values = {"val_nll": elbo.nll, "val_kl": elbo.kl.sum(), "val_loss": elbo.loss}
        self.log_dict(values, batch_size=len(batch), sync_dist=True)
        if self.spread is not None and index < SPREAD_BATCHES:
            generator = torch.Generator(self.device).manual_seed(index)  # the same noise at every check
            posterior = self.model.encode(batch.counts, batch.covariates)
            z = posterior.loc + posterior.scale * torch.randn(
                posterior.loc.shape, generator=generator, device=self.device
            ).to(posterior.loc)
            self.spread.add(batch.counts, self.model.decode(z, batch.counts.library, batch.covariates), generator)

    def on_validation_epoch_start(self) -> None:
        self.spread = None if self.components is None else Spread(self.components)

    def on_validation_epoch_end(self) -> None:
        if self.spread is None or self.config.largest_kl_weight is None:
            return
        log_ratio, error = self.spread.log_ratio()  # of all validation cells in every process
        self.log_dict({"val_spread": math.exp(log_ratio), "kl_weight": self.final_kl_weight})
        loss = float(self.trainer.callback_metrics["val_loss"])
        # A fit that has begun to follow the noise of its training cells is over: its best weights are kept as they are.
        if loss < self.lowest_loss and self.global_step >= self.config.kl_warmup * self.steps:
            share = self.trainer.num_training_batches / self.steps  # of the training since the last check
            step = max(-1.0, min(KL_WEIGHT_RATE * share * (log_ratio - error), 1.0))
            moved = self.final_kl_weight * math.exp(step)
            moved = max(self.config.kl_weight, min(moved, self.config.largest_kl_weight))
            if moved != self.final_kl_weight:
                self.final_kl_weight = moved
                self.lowest_loss = loss = math.inf  # what is measured from now on is another loss
        self.lowest_loss = min(self.lowest_loss, loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kl_weight_and_lowest_loss"] = (self.final_kl_weight, self.lowest_loss)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        begun = (self.final_kl_weight, self.lowest_loss)  # of a checkpoint that an earlier version wrote
        self.final_kl_weight, self.lowest_loss = checkpoint.get("kl_weight_and_lowest_loss", begun)

    def kl_weight(self) -> float:
        """The KL weight at the current step, linear up to the final one."""
        rising = self.config.kl_warmup * self.steps
        return self.final_kl_weight * (min(1.0, self.global_step / rising) if rising else 1.0)


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
