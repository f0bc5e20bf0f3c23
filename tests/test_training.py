"""Training of both stages: posterior samples, averaged weights, schedules, shuffling, divergence."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.data import raw_counts
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import ConfigError, LatdiffError
from latdiff_core.registry import Registry, use_registry
from latdiff_core.training import fit as fitting
from latdiff_core.training.batches import CellData, LatentBatch, Shuffled
from latdiff_core.training.modules import AutoencoderStage, DiffusionStage, clip_gradients, warmup_cosine

STAGES = [AutoencoderStage, DiffusionStage]


def test_fitting_leaves_data_and_random_states_as_they_were(make_model, tiny_data):
    data = tiny_data.copy()
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    make_model().fit(data, progress=False)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert (data.X != tiny_data.X).nnz == 0
    assert data.obs.equals(tiny_data.obs)
    assert [*data.uns, *data.layers, *data.obsm] == [*tiny_data.layers]  # to anndata 0.13, X is one of them


@pytest.mark.parametrize(
    ("name", "stage", "section"),
    [("autoencoder", AutoencoderStage, {"epochs": 1}), ("diffusion", DiffusionStage, {"steps": 6, "checks": 1})],
)
def test_what_is_kept_is_the_moving_average_of_the_weights(
    make_model, tiny_data, shared_weights, monkeypatch, name, stage, section
):
    """Mistake B22: sampling with the last weights; or with an average that is still that of the untrained ones."""
    decay, starts = 0.3, []
    step = stage.training_step

    def recorded_step(self, batch, index):
        starts.append([p.detach().clone() for p in self.model.parameters()])
        return step(self, batch, index)

    monkeypatch.setattr(stage, "training_step", recorded_step)

    def trained(ema_decay: float) -> list[Tensor]:
        short = {**section, "batch_size": 32, "learning_rate": 0.01, "ema_decay": ema_decay}
        model = make_model({f"training.{name}": short, **shared_weights}).fit(tiny_data, progress=False)
        return list(getattr(model.fitted, name).parameters())

    last = trained(0.0)
    path = [*starts[1:], last]  # after each step
    assert len(path) > 3
    expected = path[0]
    for n, parameters in enumerate(path[1:], start=1):
        kept = min(decay, (1 + n) / (10 + n))
        expected = [kept * e + (1 - kept) * p for e, p in zip(expected, parameters, strict=True)]
    for ours, theirs in zip(trained(decay), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert not torch.equal(expected[0], last[0])


def test_cached_posteriors_are_sampled_with_their_whole_variance():
    """Mistake B15: means instead of samples have a fraction of the variance that the decoder was trained on."""
    n = 50_000
    loc = 0.3 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    batch = LatentBatch(loc, torch.tensor([2.0, 0.0]).expand(n, 2), Conditions((), n))
    x = batch.sample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(x.var(0), torch.tensor([0.09 + 4.0, 0.09]), rtol=0.03, atol=0)
    assert torch.equal(x[:, 1], loc[:, 1])


def test_stage_two_trains_on_fresh_posterior_samples(make_model, tiny_data, monkeypatch):
    """Mistake B15 again, where it is made: in the training step and in the cache it reads."""
    section = {"steps": 8, "checks": 2, "batch_size": 108}  # every batch holds all 108 training cells
    seen, loss = [], Diffusion.loss
    monkeypatch.setattr(Diffusion, "loss", lambda self, x, c, d: seen.append((self.training, x)) or loss(self, x, c, d))
    model = make_model({"training.diffusion": section}).fit(tiny_data, progress=False)
    batches = torch.stack([x for training, x in seen if training])  # (steps, cells, latent and library)
    assert batches.shape == (8, 108, 5)
    assert len(batches[:, :, 0].unique()) == 8 * 108
    assert len(batches[:, :, -1].unique()) <= 108, "the library size is known, not sampled"
    fitted = model.fitted
    nothing = Annotations(Conditions((), 120), Conditions((), 120))
    unlabelled = fitted.schema.model_copy(update={"attributes": ()})
    cells = CellData(raw_counts(tiny_data), nothing, unlabelled)
    cache = fitting.encode_cells(fitted.autoencoder, cells, joint=True)
    total = cache.loc.var(0, correction=0) + cache.scale.square().mean(0)
    torch.testing.assert_close(fitted.diffusion.standardiser.std.square(), total, rtol=0.2, atol=0)
    torch.testing.assert_close(batches.flatten(0, 1).var(0), torch.ones(5), rtol=0.2, atol=0)
    torch.testing.assert_close(cache.loc[:, -1].exp(), torch.as_tensor(tiny_data.X.sum(1)).flatten(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("stage", STAGES)
def test_training_that_diverges_stops_and_names_the_metric(make_model, tiny_data, monkeypatch, stage):
    step = stage.training_step
    monkeypatch.setattr(stage, "training_step", lambda self, batch, index: step(self, batch, index) * float("nan"))
    with pytest.raises(LatdiffError, match=r"diverged in epoch \d: .*val_loss.* learning_rate"):
        make_model().fit(tiny_data, progress=False)


def test_a_strategy_that_does_not_exist_is_refused_before_training(make_model, tiny_data):
    with pytest.raises(ConfigError, match="strategy is 'dpp'; did you mean 'ddp'"):
        make_model({"training.strategy": "dpp"}).fit(tiny_data, progress=False)


def test_a_fit_without_cells_to_validate_by_says_so(make_model, tiny_data, caplog):
    data = tiny_data.copy()
    data.obs["cell_type"] = data.obs_names
    make_model().fit(data, progress=False)
    assert "no cells are left to validate by" in caplog.text


@pytest.mark.parametrize(("epochs", "batch_size"), [(6, 200), (1, 18)])  # of 108 cells
def test_the_kl_weight_rises_and_validation_always_has_it_whole(make_model, tiny_data, monkeypatch, epochs, batch_size):
    """Mistake B11: a full KL from the first step collapses the posterior."""
    seen, elbo = [], CountAutoencoder.elbo

    def recorded_elbo(self, counts, covariates, beta=1.0, free_bits=0.0):
        seen.append((self.training, beta))
        return elbo(self, counts, covariates, beta, free_bits)

    monkeypatch.setattr(CountAutoencoder, "elbo", recorded_elbo)
    section = {"epochs": epochs, "min_steps": 0, "batch_size": batch_size, "kl_weight": 2.0, "kl_warmup": 2 / 3}
    make_model({"training.autoencoder": section}).fit(tiny_data, progress=False)
    assert [beta for training, beta in seen if training] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.0])
    assert {beta for training, beta in seen if not training} == {2.0}


@pytest.mark.parametrize(("largest", "first"), [(0.1, 1.0), (1e3, 1.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_gradients_are_clipped_by_the_norm_of_all_together(largest, first):
    torch.manual_seed(0)
    mine, torchs = ([torch.nn.Parameter(torch.zeros(n)) for n in (3, 50, 2)] for _ in range(2))
    for one, other in zip(mine[:2], torchs[:2], strict=True):  # the last has no gradient
        one.grad = torch.randn_like(one)
        one.grad[0] = first
        other.grad = one.grad.clone()
    clip_gradients(mine, largest)
    torch.nn.utils.clip_grad_norm_(torchs, largest)
    for one, other in zip(mine[:2], torchs[:2], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=0, equal_nan=True)
    clip_gradients(mine[2:], largest)  # without any gradient


def test_the_learning_rate_rises_from_the_first_step_and_falls_to_zero():
    factors = [warmup_cosine(100, 10)(step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == 1.0 == factors[9]
    assert np.all(np.diff(factors[:10]) > 0)
    assert np.all(np.diff(factors[10:]) < 0)
    assert factors[100] == pytest.approx(0.0)
    assert [warmup_cosine(3, 0)(step) for step in (0, 3)] == [1.0, 0.0]


@pytest.mark.parametrize("batches", [None, 7])
def test_an_epoch_visits_every_cell_equally_in_an_order_of_its_own(batches):
    sampler = Shuffled(10, 4, seed=3, batches=batches)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)
        visits = np.bincount(np.concatenate(epochs[-1]), minlength=10)
        assert visits.max() - visits.min() <= 1
    assert epochs[0] != epochs[1]
    assert epochs[1] == list(sampler)
    assert epochs[0] != list(Shuffled(10, 4, seed=4, batches=batches))


def test_training_shuffles_anew_in_every_epoch(make_model, tiny_data, monkeypatch):
    orders: dict[int, list[float]] = {}
    step = AutoencoderStage.training_step

    def recorded_step(self, batch, index):
        orders.setdefault(self.current_epoch, []).extend(batch.counts.library.tolist())
        return step(self, batch, index)

    monkeypatch.setattr(AutoencoderStage, "training_step", recorded_step)
    make_model().fit(tiny_data, progress=False)
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert len(orders[0]) == 108, "a tenth of the cells validates"


def test_small_data_get_the_passes_that_the_fewest_steps_need(make_model, tiny_data):
    section = {"epochs": 1, "min_steps": 10, "batch_size": 32}  # 108 training cells: 4 steps per epoch
    history = make_model({"training.autoencoder": section}).fit(tiny_data, progress=False).fitted.history
    assert [row["step"] for row in history["autoencoder"]] == [4, 8, 12]


def test_a_seed_that_cannot_be_used_is_refused_with_the_config(make_model):
    with pytest.raises(LatdiffError, match="training -> seed"):
        make_model({"training.seed": -1})


def test_no_files_are_left_where_training_was_started(make_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_model().fit(tiny_data, progress=False)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(("steps", "checks", "epochs"), [(12, 5, 4), (7, 3, 1), (5, 20, 5)])
def test_stage_two_takes_exactly_the_steps_asked_for(make_model, tiny_data, steps, checks, epochs):
    model = make_model({"training.diffusion.steps": steps, "training.diffusion.checks": checks})
    rows = model.fit(tiny_data, progress=False).fitted.history["diffusion"]
    assert (rows[-1]["step"], len(rows)) == (steps, epochs)


@pytest.mark.parametrize("has", [True, False])
def test_a_processor_without_bfloat16_says_so(make_model, tiny_data, monkeypatch, caplog, has):
    monkeypatch.setattr(fitting, "multiplies_bfloat16", lambda: has)
    make_model({"training.precision": "bfloat16"}).fit(tiny_data, progress=False)
    assert ("no bfloat16 products" in caplog.text) is not has


def test_bfloat16_products_train_to_the_same_likelihood(make_model, tiny_data):
    """Autocast reaches the matrix products only: weights, likelihood and run folder stay float32."""
    both = [make_model({"training.precision": p}).fit(tiny_data, progress=False) for p in ("float32", "bfloat16")]
    losses = [model.fitted.history["autoencoder"][-1]["val_loss"] for model in both]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert {weight.dtype for weight in both[1].fitted.autoencoder.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore")  # of torch's own tracing
def test_compiled_steps_train_to_the_same_losses(make_model, tiny_data, monkeypatch):
    """As torch traces them; machine code, which takes minutes to make, is left to the tests on a GPU."""
    compiled, pieces = torch.compile, []

    def traced(function, **options):
        pieces.append(function.__qualname__)
        return compiled(function, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    plain, fused = (make_model({"training.compile": c}).fit(tiny_data, progress=False).fitted for c in (False, True))
    assert pieces == ["AutoencoderStage.objective", "DiffusionStage.objective"]
    assert fused.history == plain.history


def test_compiling_without_a_compiler_is_refused_before_anything_is_trained(
    make_model, tiny_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler here.*leave training.compile false"):
        make_model({"training.compile": True}).fit(tiny_data, checkpoints=tmp_path / "run", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_of_every_category_one_cell_at_least_is_trained_on():
    """A rare perturbation whose cells all validate would have an embedding that was never trained."""
    types, donors = np.arange(200) // 2, np.arange(200) % 7
    train, validation = fitting.split_cells(200, 0.5, 0, [types, donors])
    assert set(types[train]) == set(types)
    assert set(donors[train]) == set(donors)
    assert sorted([*train, *validation]) == list(range(200))
    assert 50 < len(validation) < 100
    plain = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(fitting.split_cells(200, 0.5, 0)[1], np.sort(plain[:100]))


def test_a_component_that_is_not_registered_is_missed_before_training(make_model, tiny_data, tmp_path):
    model = make_model()
    with use_registry(Registry()), pytest.raises(ConfigError, match="no encoder is called 'mlp'"):
        model.fit(tiny_data, checkpoints=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
