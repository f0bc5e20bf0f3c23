"""The weights that are kept of a training: averaged over its steps, and those of the lowest validation loss."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class KeptWeights(Callback):
    """Averages the weights, looks at validation cells with the average, and remembers it where their loss was lowest.

    The average moves by average <- average + (1 - decay) (weights - average) after each step. After n updates the decay
    is min(decay, (1 + n) / (10 + n)), so that a short training is not an average over the untrained weights that it
    began with; without decay there is none, and the weights themselves are looked at.

    Lightning's ``WeightAveraging`` keeps its average on the CPU, where models are before training starts, and waits for
    a GPU three times per step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.lowest_loss = math.inf
        self.kl_weight = 0.0
        """Of the loss that was lowest."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """What is kept, by name; what is not named is kept as the last step left it."""
        return self.best or self.average

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.average = {name: value.to(pl_module.device) for name, value in self.average.items()}  # of a checkpoint

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not self.decay:
            return
        if not self.average:
            self.average = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}
            return
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [weight.detach() for weight in pl_module.parameters()]
        torch._foreach_lerp_(list(self.average.values()), weights, share)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val_loss", math.inf))
        weight = float(trainer.callback_metrics.get("kl_weight", self.kl_weight))
        if loss < self.lowest_loss or weight != self.kl_weight:  # what was lowest was another loss
            self.kl_weight = weight
            self.lowest_loss = loss
            stored = pl_module.state_dict()
            once = chain(
                pl_module.named_parameters(), pl_module.named_buffers()
            )  # a weight that is shared has one name
            held = {name: value for name, value in once if name in stored} | self.average
            self.best = {name: value.detach().clone() for name, value in held.items()}

    def state_dict(self) -> dict[str, Any]:
        kept = ("updates", "average", "best", "lowest_loss", "kl_weight")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        """The average into the model, and what was there into its place."""
        for name, weight in pl_module.named_parameters():
            if name in self.average:
                weight.data, self.average[name] = self.average[name], weight.data
