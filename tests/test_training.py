"""Training of both stages: seeds, posterior samples, averaged weights, interruption, divergence."""

from __future__ import annotations

import copy
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from latdiff_core import LatentDiffusion
from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.data import raw_counts
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import LatdiffError, OutputExistsError, RunFolderError, TrainingInterrupted
from latdiff_core.training import checkpoints
from latdiff_core.training import fit as fitting
from latdiff_core.training.batches import CellData, LatentBatch, Shuffled
from latdiff_core.training.kept_weights import KeptWeights
from latdiff_core.training.modules import AutoencoderStage, DiffusionStage, warmup_cosine

STAGES = [AutoencoderStage, DiffusionStage]


@pytest.fixture
def _interrupt_signal():
    """Gives Ctrl-C its handler back, whatever a test does to it."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def weights(model: LatentDiffusion) -> dict[str, Tensor]:
    networks = {"autoencoder": model.fitted.autoencoder, "diffusion": model.fitted.diffusion}
    return {f"{n}.{name}": value.clone() for n, net in networks.items() for name, value in net.state_dict().items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


def raise_at(monkeypatch, stage: type, epoch: int, error: BaseException, index: int = 1) -> None:
    """Makes a stage fail in the given batch of the given epoch."""
    step = stage.training_step

    def failing_step(self, batch, i):
        if self.current_epoch == epoch and i == index:
            raise error
        return step(self, batch, i)

    monkeypatch.setattr(stage, "training_step", failing_step)


def test_the_same_seed_gives_the_same_weights_whatever_the_random_state(fitted_model, make_model, tiny_data):
    torch.manual_seed(1234)
    assert_same(weights(fitted_model), weights(make_model().fit(tiny_data, progress=False)))


def test_another_seed_gives_other_weights(fitted_model, make_model, tiny_data):
    other = weights(make_model({"training.seed": 1}).fit(tiny_data, progress=False))
    same = [name for name, value in weights(fitted_model).items() if torch.equal(value, other[name])]
    assert [name for name in same if name.endswith("weight")] == []


def test_fitting_leaves_data_and_random_states_as_they_were(make_model, tiny_data):
    data = tiny_data.copy()
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    make_model().fit(data, progress=False)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert (data.X != tiny_data.X).nnz == 0
    assert data.obs.equals(tiny_data.obs)
    assert (list(data.uns), list(data.layers), list(data.obsm)) == ([], [], [])


@pytest.mark.usefixtures("_interrupt_signal")
@pytest.mark.parametrize(("epoch", "seconds"), [(0, 30.0), (2, 30.0), (2, 0.0)])
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_fit_resumes_to_exactly_the_uninterrupted_weights(
    make_model, fitted_model, tiny_data, tmp_path, monkeypatch, stage, epoch, seconds
):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", seconds)
    with monkeypatch.context() as patch:
        raise_at(patch, stage, epoch, KeyboardInterrupt())
        with pytest.raises(TrainingInterrupted):
            make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    torch.manual_seed(5)
    resumed = make_model().fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)
    assert_same(weights(fitted_model), weights(resumed))
    assert resumed.fitted.history == fitted_model.fitted.history


@pytest.mark.usefixtures("_interrupt_signal")
def test_resuming_a_finished_fit_gives_the_same_model(make_model, fitted_model, tiny_data, tmp_path):
    make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    again = make_model().fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)
    assert_same(weights(fitted_model), weights(again))
    assert again.fitted.history == fitted_model.fitted.history


@pytest.mark.usefixtures("_interrupt_signal")
def test_an_interruption_says_where_to_take_up_again_and_leaves_the_next_one_possible(
    make_model, tiny_data, tmp_path, monkeypatch
):
    raise_at(monkeypatch, AutoencoderStage, 1, KeyboardInterrupt())
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted) as caught:
        make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    assert signal.getsignal(signal.SIGINT) is before, "Ctrl-C is ignored from now on"
    assert str(tmp_path) in str(caught.value)
    assert "resume" in str(caught.value)


@pytest.mark.usefixtures("_interrupt_signal")
@pytest.mark.parametrize("where", ["encode_cells", "build_diffusion", "standardise"])
def test_ctrl_c_between_the_stages_is_an_interruption_too(make_model, tiny_data, tmp_path, monkeypatch, where):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, where, interrupted)
    with pytest.raises((TrainingInterrupted, KeyboardInterrupt)) as caught:
        make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    assert caught.type is TrainingInterrupted
    assert str(tmp_path) in str(caught.value)


def test_a_fit_is_resumed_only_with_the_data_and_config_it_was_begun_with(make_model, tiny_data, tmp_path):
    make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()}
    with pytest.raises(OutputExistsError, match=r"holds the checkpoints .*--resume"):
        make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    with pytest.raises(RunFolderError, match="belong to another config"):
        make_model({"training.seed": 1}).fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)
    counts, labels = tiny_data.copy(), tiny_data.copy()
    counts.X.data[0] += 1
    labels.obs["cell_type"] = labels.obs["cell_type"].to_numpy()[::-1]
    for other in (counts, labels, tiny_data[:-1].copy(), tiny_data[::-1].copy()):
        with pytest.raises(RunFolderError, match="belong to another training data"):
            make_model().fit(other, checkpoints=tmp_path, resume=True, progress=False)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()} == before


def test_there_must_be_something_to_resume(make_model, tiny_data, tmp_path):
    with pytest.raises(RunFolderError, match="no checkpoints to resume"):
        make_model().fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)
    (tmp_path / "run.json").write_text('{"config": ')
    with pytest.raises(RunFolderError, match="damaged"):
        make_model().fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)


def test_checkpoints_need_no_unpickling_of_code(make_model, tiny_data, tmp_path):
    make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    files = sorted(f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.ckpt"))
    assert files == ["autoencoder/last.ckpt", "diffusion/last.ckpt"]
    for file in files:
        assert "state_dict" in torch.load(tmp_path / file, weights_only=True)


@pytest.mark.parametrize(("seconds", "epochs"), [(0.0, [0, 1, 2, 3]), (3600.0, [0, 3])])
def test_checkpoints_are_written_at_the_first_epoch_the_last_and_when_it_is_time(
    make_model, tiny_data, monkeypatch, seconds, epochs
):
    """After each of many short epochs they would take longer than the training."""
    written, save = [], Trainer.save_checkpoint
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda self, path: written.append(self.current_epoch) or save(self, path)
    )
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", seconds)
    make_model({"training.autoencoder.epochs": 4, "training.diffusion.checks": 4}).fit(tiny_data, progress=False)
    assert written == 2 * epochs


def test_the_weights_of_the_best_held_out_loss_are_kept(make_model, tiny_data, tmp_path, monkeypatch):
    losses, looked_at = [1.0, 0.5, 2.0], []

    def validation_step(self, *_):
        looked_at.append({name: value.clone() for name, value in self.model.state_dict().items()})
        self.log("val_loss", losses[self.current_epoch], batch_size=1)

    for stage in STAGES:
        monkeypatch.setattr(stage, "validation_step", validation_step)
    fitted = make_model().fit(tiny_data, checkpoints=tmp_path, progress=False).fitted
    again = make_model().fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False).fitted
    for stage, (_, best, last) in (("autoencoder", looked_at[:3]), ("diffusion", looked_at[3:])):
        kept = getattr(fitted, stage).state_dict()
        assert_same(kept, best)
        assert any(not torch.equal(kept[name], last[name]) for name in kept)
        assert_same(kept, getattr(again, stage).state_dict())
        assert fitted.provenance["metrics"][f"{stage}_val_loss"] == 0.5


def test_buffers_are_kept_with_the_weights_they_belong_to():
    """A network may change them in training, as batch normalisation does."""
    kept, network = KeptWeights(decay=0.9), torch.nn.BatchNorm1d(2)
    for loss in (1.0, 0.5, 2.0):
        with torch.no_grad():
            network(torch.randn(8, 2) + 3)
            network.weight += 1
        kept.on_train_batch_end(None, network)
        if loss == 0.5:
            best = {**copy.deepcopy(network.state_dict()), **copy.deepcopy(kept.average)}
        kept.on_train_epoch_end(SimpleNamespace(callback_metrics={"val_loss": torch.tensor(loss)}), network)
    assert_same(kept.weights, best)
    assert kept.weights["num_batches_tracked"] == 2


def test_a_checkpoint_of_another_version_is_not_taken_up(make_model, tiny_data, tmp_path):
    make_model().fit(tiny_data, checkpoints=tmp_path, progress=False)
    (tmp_path / "autoencoder_history.json").unlink()
    file = tmp_path / "autoencoder" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["callbacks"]["KeptWeights"]
    torch.save(checkpoint, file)
    with pytest.raises(RunFolderError, match="of another version of latdiff; remove"):
        make_model().fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)


def test_training_on_all_cells_keeps_the_last_weights(make_model, tiny_data, tmp_path):
    overrides = {"training.validation_fraction": 0.0, "training.autoencoder.ema_decay": 0.0}
    overrides["training.diffusion.ema_decay"] = 0.0
    model = make_model(overrides).fit(tiny_data, checkpoints=tmp_path, progress=False)
    for stage in ("autoencoder", "diffusion"):
        kept = {f"model.{k}": v for k, v in getattr(model.fitted, stage).state_dict().items()}
        assert_same(kept, torch.load(tmp_path / stage / "last.ckpt", weights_only=True)["state_dict"])
        assert "val_loss" not in model.fitted.history[stage][-1]


@pytest.mark.parametrize(
    ("name", "stage", "section"),
    [("autoencoder", AutoencoderStage, {"epochs": 1}), ("diffusion", DiffusionStage, {"steps": 6, "checks": 1})],
)
def test_what_is_kept_is_the_moving_average_of_the_weights(make_model, tiny_data, monkeypatch, name, stage, section):
    """Mistake B22: sampling with the last weights; or with an average that is still that of the untrained ones."""
    decay, starts = 0.3, []
    step = stage.training_step

    def recorded_step(self, batch, index):
        starts.append([p.detach().clone() for p in self.model.parameters()])
        return step(self, batch, index)

    monkeypatch.setattr(stage, "training_step", recorded_step)

    def trained(ema_decay: float) -> list[Tensor]:
        short = {**section, "batch_size": 32, "learning_rate": 0.01, "ema_decay": ema_decay}
        model = make_model({f"training.{name}": short}).fit(tiny_data, progress=False)
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


def test_the_kl_weight_rises_and_validation_always_has_it_whole(make_model, tiny_data, monkeypatch):
    """Mistake B11: a full KL from the first step collapses the posterior."""
    seen, elbo = [], CountAutoencoder.elbo

    def recorded_elbo(self, counts, covariates, beta=1.0, free_bits=0.0):
        seen.append((self.training, beta))
        return elbo(self, counts, covariates, beta, free_bits)

    monkeypatch.setattr(CountAutoencoder, "elbo", recorded_elbo)
    section = {"epochs": 6, "batch_size": 200, "kl_weight": 2.0, "kl_warmup": 2 / 3}  # one batch per epoch
    make_model({"training.autoencoder": section}).fit(tiny_data, progress=False)
    assert [beta for training, beta in seen if training] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.0])
    assert {beta for training, beta in seen if not training} == {2.0}


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
    assert len(orders[0]) == 108, "a tenth of the cells is held out"


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


@pytest.mark.parametrize(("stage", "file"), [(1, "autoencoder/last.ckpt"), (2, "autoencoder_history.json")])
def test_a_damaged_checkpoint_is_named(make_model, tiny_data, tmp_path, monkeypatch, stage, file):
    folder = tmp_path / "checkpoints"
    with monkeypatch.context() as patch:
        raise_at(patch, AutoencoderStage if stage == 1 else DiffusionStage, 1, KeyboardInterrupt())
        with pytest.raises(TrainingInterrupted):
            make_model().fit(tiny_data, checkpoints=folder, progress=False)
    (folder / file).write_bytes((folder / file).read_bytes()[:50])
    with pytest.raises(RunFolderError, match="is damaged; remove"):
        make_model().fit(tiny_data, checkpoints=folder, resume=True, progress=False)


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
