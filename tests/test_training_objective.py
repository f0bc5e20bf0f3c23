"""Training does what the config says, on training cells alone."""

from __future__ import annotations

import torch

from latdiff_core.conditions import Annotations
from latdiff_core.data import encode_obs, raw_counts
from latdiff_core.diffusion import Diffusion
from latdiff_core.training import fit as fitting
from latdiff_core.training import modules
from latdiff_core.training.batches import CellData
from latdiff_core.training.modules import AutoencoderStage, DiffusionStage


def test_stage_one_minimises_the_bound_less_each_cells_share_of_the_prior(make_model, tiny_data):
    decoder = {"kind": "negative_binomial", "hidden": [16], "weight_prior": 0.4}
    model = make_model({"autoencoder.decoder": decoder, "training.autoencoder.free_bits": 0.3})
    fitted = model.fit(tiny_data, progress=False).fitted
    autoencoder, schema = fitted.autoencoder, fitted.schema
    autoencoder.decoder.network.logits.weight.fill_(0.5)
    annotations = Annotations(encode_obs(tiny_data.obs, schema.attributes), encode_obs(tiny_data.obs, ()))
    batch = CellData(raw_counts(tiny_data), annotations, schema)[list(range(20))]
    stage = AutoencoderStage(autoencoder, model.config.training.autoencoder, cells=50)
    torch.manual_seed(0)
    loss, _ = stage.objective(batch.counts, batch.covariates, torch.tensor(0.5))
    torch.manual_seed(0)
    elbo = autoencoder.elbo(batch.counts, batch.covariates, 0.5, free_bits=0.3)
    prior = autoencoder.decoder.log_prior()
    torch.testing.assert_close(loss, (elbo.loss - prior / 50) / 20)


def test_training_is_run_as_the_config_says(make_model, tiny_data, monkeypatch):
    clipped, optimisers, schedules = [], [], []

    class Adam(modules.AdamW):
        def __init__(self, parameters, lr, **options):
            optimisers.append((lr, options["weight_decay"]))
            super().__init__(parameters, lr, **options)

    class Factor(modules.warmup_cosine):
        def __init__(self, total, warmup):
            schedules.append((total, warmup))
            super().__init__(total, warmup)

    monkeypatch.setattr(modules, "AdamW", Adam)
    monkeypatch.setattr(modules, "warmup_cosine", Factor)
    monkeypatch.setattr(modules, "clip_gradients", lambda parameters, largest: clipped.append(largest))
    model = make_model(
        {
            "training.autoencoder": {
                "epochs": 1,
                "min_steps": 0,
                "batch_size": 54,
                "learning_rate": 0.003,
                "weight_decay": 0.02,
                "gradient_clip": 7.0,
            },
            "training.diffusion": {
                "steps": 10,
                "checks": 1,
                "learning_rate": 0.004,
                "weight_decay": 0.03,
                "gradient_clip": 8.0,
                "warmup": 0.2,
            },
        }
    )
    model.fit(tiny_data, progress=False)
    assert optimisers == [(0.003, 0.02), (0.004, 0.03)]
    assert schedules == [(2, 0), (10, 2)]
    assert clipped == [7.0] * 2 + [8.0] * 10


def test_nothing_is_learned_from_validation_cells(make_model, tiny_data, monkeypatch):
    given, trained, kept = [], [], []
    statistics, step, loss = fitting.gene_statistics, DiffusionStage.training_step, Diffusion.loss
    monkeypatch.setattr(
        fitting, "gene_statistics", lambda counts, cells=None: given.append(cells) or statistics(counts, cells)
    )
    monkeypatch.setattr(
        DiffusionStage, "training_step", lambda self, batch, i: trained.append(batch.loc) or step(self, batch, i)
    )
    monkeypatch.setattr(
        Diffusion, "loss", lambda self, x, c, draw: kept.append((self.training, draw.keep)) or loss(self, x, c, draw)
    )
    make_model().fit(tiny_data, progress=False)
    assert len(given[0]) == 108
    assert len(torch.cat(trained).unique(dim=0)) == 108
    assert {training for training, _ in kept} == {True, False}
    assert all(
        keep.all() for training, keep in kept if not training
    )  # the loss that chooses the weights is conditional
