"""A fit repeats itself: seeds, interruption and resuming, checkpoints, and which weights are kept."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from latdiff_core import LatentDiffusion, run_folder
from latdiff_core.errors import OutputExistsError, RunFolderError, TrainingInterrupted
from latdiff_core.paths import worked_in_alone
from latdiff_core.training import checkpoints
from latdiff_core.training import fit as fitting
from latdiff_core.training.kept_weights import KeptWeights
from latdiff_core.training.modules import AutoencoderStage, DiffusionStage

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
    with pytest.raises(RunFolderError, match=r"begun with another config \(training.seed\)"):
        make_model({"training.seed": 1}).fit(tiny_data, checkpoints=tmp_path, resume=True, progress=False)
    counts, labels = tiny_data.copy(), tiny_data.copy()
    counts.X.data[0] += 1
    labels.obs["cell_type"] = labels.obs["cell_type"].to_numpy()[::-1]
    for other in (counts, labels, tiny_data[:-1].copy(), tiny_data[::-1].copy()):
        with pytest.raises(RunFolderError, match="begun on other training data"):
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


def test_the_weights_of_the_best_validation_loss_are_kept(make_model, tiny_data, tmp_path, monkeypatch):
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


def test_a_fit_that_goes_on_with_other_versions_says_so(make_model, tmp_path, monkeypatch, caplog):
    def open_for(resume: bool) -> None:
        with checkpoints.open_checkpoints(tmp_path, make_model().config, "a digest", on_disk=False, resume=resume):
            pass

    open_for(resume=False)
    open_for(resume=True)
    assert caplog.messages == []
    monkeypatch.setattr(run_folder, "_version", lambda distribution: "99.0")
    open_for(resume=True)
    assert "and goes on with torch 99.0, latdiff-core 99.0" in caplog.text


def test_one_process_at_a_time_trains_in_a_folder(make_model, tiny_data, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    other = f"""
import sys
from pathlib import Path
from latdiff_core.paths import worked_in_alone
with worked_in_alone(Path({str(folder)!r})):
    print("there", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(OutputExistsError, match="another process works in"):
            make_model().fit(tiny_data, checkpoints=folder, progress=False)
        process.kill()
    with monkeypatch.context() as patch:  # it freed the folder as it died
        raise_at(patch, DiffusionStage, 0, KeyboardInterrupt())
        with pytest.raises(TrainingInterrupted):
            make_model().fit(tiny_data, checkpoints=folder, progress=False)
    with worked_in_alone(folder), pytest.raises(OutputExistsError, match="another process works in"):
        make_model().fit(tiny_data, checkpoints=folder, resume=True, progress=False)
    make_model().fit(tiny_data, checkpoints=folder, resume=True, progress=False)
