"""The embedded data, the demo, and trials on other cells."""

from __future__ import annotations

import json
import warnings

import anndata
import matplotlib.image
import numpy as np
import pytest
import scanpy

from latdiff_core import LatentDiffusion
from latdiff_core.data import demo_data, stratified_split
from latdiff_core.errors import ConfigError, DataError, OutputExistsError, RunFolderError, TrainingInterrupted
from latdiff_core.training.modules import DiffusionStage
from latdiff_core.trial import run_demo, run_trial


def test_the_embedded_counts_are_exact_integers():
    """What is rounded is nowhere near a half, and log-normalising the result gives back what the file holds."""
    cells = demo_data()
    assert cells.shape == (700, 765)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is older than the reader
        reduced = scanpy.datasets.pbmc68k_reduced()
    exact = np.expm1(reduced.raw.X.toarray().astype(np.float64)) * reduced.obs["n_counts"].to_numpy()[:, None] / 1e4
    assert np.abs(exact - np.rint(exact)).max() < 0.1
    np.testing.assert_array_equal(cells.X.toarray(), np.rint(exact))


def test_the_split_holds_out_a_share_of_every_label():
    labels = np.array(["a"] * 50 + ["b"] * 10 + ["c"])
    train, test = stratified_split(labels, 0.3, seed=0)
    assert sorted([*train, *test]) == list(range(61))
    assert [int((labels[test] == name).sum()) for name in "abc"] == [15, 3, 0]
    assert not np.array_equal(test, stratified_split(labels, 0.3, seed=1)[1])


def test_the_demo_leaves_cells_model_figure_and_table(tmp_path, tiny_overrides, quick):
    result = run_demo(tmp_path / "demo", overrides=tiny_overrides, progress=False)
    assert {"generated", "real", "standing"} <= set(result.evaluation.table.columns)
    assert (result.folder / "report.html").stat().st_size > 100_000
    assert json.loads((result.folder / "evaluation.json").read_text())["settings"]["conditions"] == ["cell_type"]
    held_out = anndata.read_h5ad(result.folder / "held_out.h5ad")
    synthetic = anndata.read_h5ad(result.folder / "synthetic.h5ad")
    assert synthetic.X.dtype.kind == "i"
    assert synthetic.obs["cell_type"].value_counts().to_dict() == held_out.obs["cell_type"].value_counts().to_dict()
    assert list(synthetic.var_names) == list(held_out.var_names)
    assert {"config", "seed", "versions", "data"} <= set(synthetic.uns["latdiff"])
    assert matplotlib.image.imread(result.folder / "overview.png").std() > 0.05
    assert LatentDiffusion.load(result.folder / "run").generate(3).n_obs == 3
    with pytest.raises(OutputExistsError):
        run_demo(tmp_path / "demo")


@pytest.fixture
def nested(tiny_data) -> anndata.AnnData:
    """Counts in a layer, and a batch."""
    cells = tiny_data.copy()
    cells.layers["counts"], cells.X = cells.X.copy(), np.log1p(cells.X.toarray())
    cells.obs["batch"] = np.tile(["b1", "b2"], 60)
    return cells


def test_a_trial_holds_out_fits_generates_and_compares(nested, make_model, tmp_path, quick):
    sections = {"data.layer": "counts", "data.nuisance": [{"kind": "categorical", "key": "batch"}]}
    made = run_trial(make_model(sections), nested, tmp_path / "trial", share=0.4, seed=3, progress=False)
    train, held_out, synthetic = (
        anndata.read_h5ad(made.folder / f"{name}.h5ad") for name in ("train", "held_out", "synthetic")
    )
    assert sorted([*train.obs_names, *held_out.obs_names]) == sorted(nested.obs_names)
    assert held_out.obs.groupby(["cell_type", "batch"], observed=True).size().tolist() == [8] * 6
    for key in ("cell_type", "batch", "dose"):
        assert synthetic.obs[key].astype(str).tolist() == held_out.obs[key].astype(str).tolist()
    assert made.model.fitted.provenance["data"]["cells"] == train.n_obs
    assert made.evaluation.settings["conditions"] == ["cell_type"]
    again = made.model.generate(conditions=held_out.obs[["cell_type", "dose", "batch"]], seed=3)
    assert (again.X != synthetic.X).nnz == 0
    assert "fitted on" not in " ".join(made.evaluation.settings["notes"])


def test_an_interrupted_trial_goes_on_with_the_same_cells(tiny_data, make_model, tmp_path, quick, monkeypatch):
    folder, whole = tmp_path / "trial", tmp_path / "whole"
    run_trial(make_model(), tiny_data, whole, progress=False)
    with pytest.raises(RunFolderError, match="holds no trial to resume"):
        run_trial(make_model(), tiny_data, folder, resume=True, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(DiffusionStage, "training_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(TrainingInterrupted, match="--resume"):
            run_trial(make_model(), tiny_data, folder, progress=False)
    with pytest.raises(OutputExistsError):
        run_trial(make_model(), tiny_data, folder, progress=False)
    for other in ({"share": 0.4}, {"seed": 1}):
        with pytest.raises(RunFolderError, match="other cells"):
            run_trial(make_model(), tiny_data, folder, resume=True, progress=False, **other)
    run_trial(make_model(), tiny_data, folder, resume=True, progress=False)
    cells = [anndata.read_h5ad(path / "synthetic.h5ad").X for path in (folder, whole)]
    assert (cells[0] != cells[1]).nnz == 0
    assert not (folder / "run.checkpoints").exists()
    fitted = (folder / "run" / "manifest.json").stat().st_mtime_ns
    (folder / "report.html").unlink()
    run_trial(make_model(), tiny_data, folder, resume=True, progress=False)  # interrupted in the evaluation
    assert (folder / "report.html").exists()
    assert (folder / "run" / "manifest.json").stat().st_mtime_ns == fitted
    with pytest.raises(RunFolderError, match="another config"):
        run_trial(make_model({"training.seed": 9}), tiny_data, folder, resume=True, progress=False)


def test_a_trial_refuses_before_it_begins(tiny_data, make_model, tmp_path):
    with pytest.raises(DataError, match="6 of 120 cells would be held out; at least 20"):
        run_trial(make_model(), tiny_data, tmp_path / "trial", share=0.05)
    with pytest.raises(DataError, match="no 'cell_type'"):
        run_trial(make_model(), anndata.AnnData(tiny_data.X, tiny_data.obs[["dose"]]), tmp_path / "trial")
    with pytest.raises(ConfigError, match="one process"):
        run_trial(make_model({"training.devices": 2}), tiny_data, tmp_path / "trial")
    assert not (tmp_path / "trial").exists()
    (tmp_path / "foreign" / "run").mkdir(parents=True)
    with pytest.raises(OutputExistsError, match="is not a run folder"):
        run_trial(make_model(), tiny_data, tmp_path / "foreign", overwrite=True)
    (tmp_path / "own").mkdir()
    tiny_data.write_h5ad(tmp_path / "own" / "train.h5ad")
    with pytest.raises(OutputExistsError, match="to be read and to be written"):
        run_trial(make_model(), tmp_path / "own" / "train.h5ad", tmp_path / "own", overwrite=True)


def test_a_trial_without_conditions(tiny_data, make_model, tmp_path, quick):
    made = run_trial(make_model(conditions=[]), tiny_data, tmp_path / "trial", progress=False)
    assert anndata.read_h5ad(made.folder / "synthetic.h5ad").n_obs == 36


def test_the_command_of_a_trial(latdiff, data_file, tmp_path, tiny_fit, quick):
    out = tmp_path / "trial"
    code, text, error = latdiff("trial", data_file, "--condition", "cell_type", "--out", out, *tiny_fit)
    assert code == 0, error
    assert f"Open {out / 'report.html'} in a browser" in text
    assert "generated cells against 18 held-out cells" in text
    assert LatentDiffusion.load(out / "run").generate(3).n_obs == 3
    assert latdiff("trial", data_file, "--condition", "cell_type", "--out", out, *tiny_fit)[0] == 1
