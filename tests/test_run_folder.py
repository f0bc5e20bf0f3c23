"""Run folders: whole or not at all, checked when read, nothing unpickled."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from latdiff_core import LatentDiffusion, run_folder
from latdiff_core.errors import ConfigError, LatdiffError, OutputExistsError, RunFolderError
from latdiff_core.registry import Registry, use_registry

FILES = [
    "autoencoder.safetensors", "config.yaml", "diffusion.safetensors", "manifest.json", "metrics.csv", "schema.json",
    "training_cells.safetensors",
]  # fmt: skip


@pytest.fixture(scope="session")
def saved(fitted_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run"
    fitted_model.save(path)
    return path


@pytest.fixture
def run(saved, tmp_path) -> Path:
    """A run folder of one's own."""
    return shutil.copytree(saved, tmp_path / "run")


def listing(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def edit_manifest(run: Path, **changes: object) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_run_folder_holds_the_whole_model(fitted_model, run):
    assert sorted(f.name for f in run.iterdir()) == FILES
    loaded = LatentDiffusion.load(run)
    assert loaded.config == fitted_model.config
    assert loaded.fitted.schema == fitted_model.fitted.schema
    assert loaded.fitted.provenance == fitted_model.fitted.provenance
    for stage, rows in fitted_model.fitted.history.items():
        assert loaded.fitted.history[stage] == [pytest.approx(row) for row in rows]
    for network in ("autoencoder", "diffusion"):
        ours, theirs = (getattr(m.fitted, network).state_dict() for m in (fitted_model, loaded))
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_manifest_says_what_was_fitted_with_what(run, tiny_data):
    manifest = json.loads((run / "manifest.json").read_text())
    assert {"torch", "latdiff-core", "latdiff-counts", "latdiff-denoisers"} <= set(manifest["versions"])
    assert "unknown" not in manifest["versions"].values()
    assert manifest["seed"] == 0
    assert (manifest["data"]["cells"], manifest["data"]["genes"]) == tiny_data.shape
    assert len(manifest["data"]["fingerprint"]) == 64
    assert 0 < manifest["data"]["nonzero_share"] < 1
    assert all(np.isfinite(value) for value in manifest["metrics"].values())


def test_cells_say_what_made_them_and_what_their_model_was_fitted_with(run, monkeypatch):
    model = LatentDiffusion.load(run)
    monkeypatch.setattr(run_folder, "_version", lambda distribution: "99.0")
    made_with = model.generate(3).uns["latdiff"]
    assert made_with["versions"]["latdiff-counts"] == "99.0"
    assert f"torch {torch.__version__}" in made_with["fitted_with"]


def test_nothing_is_unpickled(run, monkeypatch):
    def unpickle(*_: object, **__: object) -> None:
        raise AssertionError("a run folder must be readable without executing what is in it")

    for module, name in [(torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")]:
        monkeypatch.setattr(module, name, unpickle)
    assert LatentDiffusion.load(run).generate(3).n_obs == 3


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(RunFolderError, match=name):
        LatentDiffusion.load(run)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(run, name):
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunFolderError, match=f"{name}.*damaged"):
        LatentDiffusion.load(run)


@pytest.mark.parametrize("name", [n for n in FILES if n != "manifest.json"])
def test_an_edited_file_is_named(run, name):
    content = bytearray((run / name).read_bytes())
    content[-3] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=f"{name} is damaged or was edited"):
        LatentDiffusion.load(run)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", f'{{"format": {run_folder.FORMAT}}}', '{"format": null, "files": {}}', "\x00\xff"]
)
def test_a_damaged_manifest_is_named(run, text):
    (run / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunFolderError, match=r"manifest\.json is damaged"):
        LatentDiffusion.load(run)


def test_a_manifest_that_lists_no_files_is_not_a_whole_run(run):
    edit_manifest(run, files={})
    (run / "config.yaml").unlink()
    with pytest.raises(RunFolderError):
        LatentDiffusion.load(run)


@pytest.mark.parametrize("changes", [{}, {"files": ["another", "layout"]}])
def test_a_folder_of_a_newer_format_asks_for_an_upgrade_whatever_its_layout(run, changes):
    edit_manifest(run, format=run_folder.FORMAT + 1, **changes)
    with pytest.raises(RunFolderError, match=r"newer version of latdiff \(format 4, .* upgrade"):
        LatentDiffusion.load(run)


def test_a_folder_of_an_older_format_asks_for_a_new_fit(run):
    edit_manifest(run, format=run_folder.FORMAT - 1)
    with pytest.raises(RunFolderError, match=r"older version of latdiff \(format 2, this one reads 3\); fit again"):
        LatentDiffusion.load(run)


def test_what_is_no_run_folder_says_so(tmp_path, run):
    with pytest.raises(RunFolderError, match="nowhere does not exist"):
        LatentDiffusion.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="empty is not a run folder"):
        LatentDiffusion.load(tmp_path / "empty")
    with pytest.raises(RunFolderError, match="is not a run folder"):
        LatentDiffusion.load(run / "config.yaml")


def test_a_component_that_is_not_installed_is_named(run):
    with use_registry(Registry()), pytest.raises(ConfigError, match="no encoder is called 'mlp'"):
        LatentDiffusion.load(run)


def test_weights_that_are_shared_or_lie_transposed_are_saved(make_model, tiny_data, shared_weights, tmp_path):
    model = make_model(shared_weights).fit(tiny_data, progress=False)
    model.save(tmp_path / "run")
    loaded = LatentDiffusion.load(tmp_path / "run")
    assert loaded.fitted.diffusion.denoiser.blocks[0] is loaded.fitted.diffusion.denoiser.blocks[1]
    np.testing.assert_array_equal(loaded.generate(20).X.toarray(), model.generate(20).X.toarray())


def test_a_run_that_exists_is_replaced_only_when_told(fitted_model, run, tmp_path):
    before = listing(tmp_path)
    with pytest.raises(OutputExistsError, match=r"run exists; .*--overwrite"):
        fitted_model.save(run)
    (run / "note.txt").write_text("ours")
    with pytest.raises(OutputExistsError, match=r"no part of a run \(note.txt\)"):
        fitted_model.save(run, overwrite=True)
    assert (run / "note.txt").read_text() == "ours"
    (run / "note.txt").unlink()
    assert listing(tmp_path) == before
    fitted_model.save(run, overwrite=True)
    assert sorted(f.name for f in run.iterdir()) == FILES
    assert [f.name for f in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_is_no_run_is_never_replaced(fitted_model, tmp_path):
    """Permission to replace an old run is not permission to delete a folder of other work."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("ours")
    with pytest.raises(LatdiffError, match="thesis"):
        fitted_model.save(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "ours"


@pytest.mark.parametrize("failure", [OSError("the disk is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("before_saving", ["nothing", "a run"])
def test_a_save_that_fails_leaves_nothing_new_behind(fitted_model, run, tmp_path, monkeypatch, before_saving, failure):
    if before_saving == "nothing":
        shutil.rmtree(run)
    before, calls = listing(tmp_path), []

    def fail_at_the_second(model: object, path: str) -> None:
        Path(path).write_bytes(b"half of a file")
        calls.append(path)
        if len(calls) == 2:
            raise failure

    monkeypatch.setattr(run_folder, "save_model", fail_at_the_second)
    with pytest.raises(type(failure)):
        fitted_model.save(run, overwrite=True)
    assert listing(tmp_path) == before


def test_what_a_killed_save_has_left_is_in_nobodys_way(fitted_model, tmp_path):
    left = tmp_path / f".run.{os.getpid()}.partial"
    left.mkdir()
    (left / "config.yaml").write_text("half")
    fitted_model.save(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_is_put_back_when_its_successor_cannot_take_its_name(fitted_model, run, tmp_path, monkeypatch):
    before, rename = listing(tmp_path), Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial") and target == run:
            raise OSError("the file system is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OSError, match="file system"):
        fitted_model.save(run, overwrite=True)
    assert listing(tmp_path) == before


def test_an_unfitted_model_says_what_to_do(tiny_model, tmp_path):
    for use in (lambda: tiny_model.save(tmp_path / "run"), lambda: tiny_model.generate(3)):
        with pytest.raises(LatdiffError, match="not fitted; call fit"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_whoever_may_read_the_config_may_read_the_weights(run):
    assert len({file.stat().st_mode for file in run.iterdir()}) == 1
