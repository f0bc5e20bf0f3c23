"""The command line, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

import latdiff_core


def test_from_a_file_of_counts_to_a_file_of_cells(latdiff, data_file, tmp_path, tiny_fit):
    run, out = tmp_path / "run", tmp_path / "cells.h5ad"
    code, text, _ = latdiff(
        "fit", data_file, "--condition", "cell_type", "--condition", "dose:continuous", "--out", run, *tiny_fit
    )
    assert code == 0
    assert "cell_type: B, NK, T" in text
    assert not run.with_name("run.checkpoints").exists()
    code, text, _ = latdiff("generate", run, "-n", 7, "--where", "cell_type=NK", "--where", "dose=1.5", "--out", out)
    assert code == 0
    cells = anndata.read_h5ad(out)
    assert cells.shape == (7, 20)
    assert set(cells.obs["cell_type"]) == {"NK"}
    assert set(cells.obs["dose"]) == {1.5}
    assert yaml.safe_load(cells.uns["latdiff"]["config"])["autoencoder"]["latent_dim"] == 4


def test_a_table_library_and_sampler_can_be_asked_for(latdiff, run_folder, tmp_path):
    table = tmp_path / "asked.csv"
    pd.DataFrame({"cell_type": ["B", "T", "T"]}).to_csv(table, index=False)
    out = tmp_path / "cells.h5ad"
    asked = ("--table", table, "--library", 5000, "--set", "diffusion.sampler.steps=2")
    code, _, _ = latdiff("generate", run_folder, *asked, "--out", out)
    cells = anndata.read_h5ad(out)
    assert code == 0
    assert list(cells.obs["cell_type"]) == ["B", "T", "T"]
    assert np.all(np.abs(np.asarray(cells.X.sum(1)) / 5000 - 1) < 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "5", "--where", "cell_type=Treg"], "'cell_type' has no value 'Treg'; known: B, NK, T"),
        (["-n", "5", "--where", "donor=1"], "no condition 'donor'; known: cell_type, dose"),
        (["-n", "5", "--where", "cell_type"], "write it as key=value"),
        (["-n", "0"], "give a whole number of at least 1"),
        (["-n", "5", "--where", "cell_type=B", "--where", "cell_type=T"], "names 'cell_type' twice"),
        (["-n", "5", "--library", "-5"], "a library size is -5"),
        (["-n", "5", "--set", "autoencoder.latent_dim=3"], "fixed once a model is trained"),
        (["-n", "5", "--set", "diffusion.guidance.drop=0.5"], "drop acts in training alone"),
        (["--table", "missing.csv"], "missing.csv does not exist"),
    ],
)
def test_an_impossible_request_is_explained_and_writes_nothing(latdiff, run_folder, tmp_path, arguments, message):
    out = tmp_path / "cells.h5ad"
    code, _, err = latdiff("generate", run_folder, *arguments, "--out", out)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not out.exists()


def test_a_folder_that_holds_no_cells_is_not_replaced(latdiff, run_folder, tmp_path):
    for out in (tmp_path / "my.zarr", tmp_path / "my.h5ad"):
        out.mkdir()
        (out / "notes.txt").write_text("precious")
        code, _, error = latdiff("generate", run_folder, "-n", 3, "--out", out, "--overwrite")
        assert code == 1
        assert "is a folder" in error
        assert (out / "notes.txt").read_text() == "precious"


def test_what_is_read_is_never_replaced(latdiff, data_file, run_folder, tmp_path):
    mine = tmp_path / "mine.h5ad"
    shutil.copy(data_file, mine)
    for arguments in (
        ("generate", run_folder, "--table", mine, "--out", mine),
        ("evaluate", data_file, mine, "--reference", data_file, "--report", mine),
        ("evaluate", mine, data_file, "--reference", data_file, "--json", mine),
    ):
        code, _, error = latdiff(*arguments, "--overwrite")
        assert code == 1
        assert "to be read and to be written" in " ".join(error.split())
    assert mine.read_bytes() == data_file.read_bytes()


def test_the_working_folder_is_no_run(latdiff, data_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = latdiff("fit", data_file, "--out", ".", "--overwrite")
    assert code == 1
    assert "is not a run folder" in " ".join(error.split())


def test_existing_output_is_kept_unless_told(latdiff, data_file, run_folder, tmp_path, tiny_fit):
    out = tmp_path / "cells.h5ad"
    out.write_text("precious")
    code, _, err = latdiff("generate", run_folder, "-n", 3, "--out", out)
    assert (code, out.read_text()) == (1, "precious")
    assert "--overwrite" in err
    assert latdiff("fit", data_file, "--out", run_folder, *tiny_fit)[0] == 1
    assert latdiff("generate", run_folder, "-n", 3, "--out", out, "--overwrite")[0] == 0
    assert anndata.read_h5ad(out).n_obs == 3


def test_evaluate_prints_and_writes_what_it_found(latdiff, data_file, tmp_path, quick):
    page, document = tmp_path / "new" / "report.html", tmp_path / "found.json"
    arguments = ("evaluate", data_file, data_file, "--reference", data_file, "--condition", "cell_type", "--splits", 2)
    code, text, _ = latdiff(*arguments, "--report", page, "--json", document)
    assert code == 0
    for words in ("2-Wasserstein distance", "gene-gene correlations", "± chance", "which is", str(page)):
        assert words in text
    shown = text[text.index("condition by condition") :]
    assert all(f"\n {name} " in shown for name in set(anndata.read_h5ad(data_file).obs["cell_type"])), shown
    assert "…" not in text, "nothing is cut at 80 columns"
    assert "<html" in page.read_text()
    assert "label_accuracy" in json.loads(document.read_text())["scores"]
    for wrong, message in (
        (("--report", page), "--overwrite"),
        (("--report", tmp_path, "--overwrite"), "is a folder"),
        (("--report", document, "--json", document, "--overwrite"), "give each its own file"),
    ):
        code, _, err = latdiff(*arguments, *wrong)
        assert code == 1
        assert message in err


def test_what_is_installed_is_listed(latdiff):
    code, text, _ = latdiff("plugins")
    assert code == 0
    for name in ("latdiff-counts", "decoder: negative_binomial", "denoiser: dit", "recipe: default"):
        assert name in text
    code, text, _ = latdiff("recipes")
    assert "foundations" in text
    assert latdiff("recipes", "nope")[0] == 1


def test_a_printed_recipe_is_a_valid_config(latdiff, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(latdiff("recipes", "default")[1])
    code, text, _ = latdiff("check", path)
    assert code == 0
    assert "valid" in text


def test_check_shows_every_problem_with_its_path(latdiff, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(latdiff("recipes", "default")[1])
    code, _, err = latdiff(
        "check", path, "--set", "diffusion.denoiser.widht=3", "--set", "autoencoder.encoder.kind=mlpp"
    )
    assert code == 1
    assert "diffusion -> denoiser -> widht: there is no such field; did you mean 'widths'?" in err
    assert "autoencoder -> encoder: no encoder is called 'mlpp'; did you mean 'mlp'?" in err
    code, _, err = latdiff("check", path, "--set", "diffusion.prediction=epsilon")
    assert code == 1
    assert "diffusion -> prediction" in err


def test_schema_is_json_with_every_kind(latdiff):
    code, text, _ = latdiff("schema")
    assert code == 0
    assert "negative_binomial" in json.dumps(json.loads(text))


def test_help_needs_no_heavy_import():
    """Help, completion and errors of usage must not wait for torch."""
    code = """
import sys
from latdiff_core.cli import main
sys.argv = ["latdiff", "--help"]
try:
    main()
except SystemExit:
    assert "torch" not in sys.modules
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_a_table_keeps_categories_as_their_text(latdiff, make_model, tiny_data, tmp_path):
    data = tiny_data.copy()
    data.obs["cell_type"] = data.obs["cell_type"].cat.rename_categories({"B": "001", "T": "NA"})
    make_model(conditions=["cell_type"]).fit(data, progress=False).save(tmp_path / "run")
    (tmp_path / "asked.csv").write_text("cell_type\n001\nNA\n")
    out = tmp_path / "cells.h5ad"
    assert latdiff("generate", tmp_path / "run", "--table", tmp_path / "asked.csv", "--out", out)[0] == 0
    assert list(anndata.read_h5ad(out).obs["cell_type"]) == ["001", "NA"]


def test_a_blank_line_of_a_table_is_a_cell_without_a_value(latdiff, run_folder, tmp_path):
    table, out = tmp_path / "asked.csv", tmp_path / "cells.h5ad"
    table.write_text("cell_type\nB\n\nT\n\n")
    code, _, error = latdiff("generate", run_folder, "--table", table, "--out", out)
    assert code == 1
    assert "missing" in error
    table.write_text("cell_type\nB\nT\n\n\n")  # those at the end are none
    assert latdiff("generate", run_folder, "--table", table, "--out", out)[0] == 0
    assert list(anndata.read_h5ad(out).obs["cell_type"]) == ["B", "T"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a,b\n1,2,3\n4\n1,2,3,4,5\n", b",cell_type\n0,B\n"])
def test_a_table_that_is_none_is_explained(latdiff, run_folder, tmp_path, content):
    table = tmp_path / "asked.csv"
    table.write_bytes(content)
    code, _, err = latdiff("generate", run_folder, "--table", table, "--out", tmp_path / "cells.h5ad")
    assert code == 1
    assert str(table) in err


@pytest.mark.parametrize("name", ["cells.txt", "file/cells.h5ad"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(latdiff, run_folder, tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("latdiff_core.model.LatentDiffusion.load", lambda path: pytest.fail("work was done"))
    code, _, err = latdiff("generate", run_folder, "-n", 3, "--out", tmp_path / name)
    assert code == 1
    assert str(tmp_path) in err


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--condition", "celltype"], "did you mean 'cell_type'"), (["--layer", "raw"], "no layer"),
     (["--control", "no"], "--control no: write it as key=value"), (["--control", "dose=1"], "which is not compared")],
)  # fmt: skip
def test_evaluate_explains_what_it_cannot_do(latdiff, data_file, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = latdiff("evaluate", data_file, data_file, "--reference", data_file, *options)
    assert code == 1
    assert message in err


def test_a_generated_cell_without_counts_can_be_evaluated(latdiff, data_file, run_folder, tmp_path, quick):
    out = tmp_path / "poor.h5ad"
    assert latdiff("generate", run_folder, "-n", 60, "--library", 1, "--out", out)[0] == 0
    assert (np.asarray(anndata.read_h5ad(out).X.sum(1)) == 0).any()
    assert latdiff("evaluate", data_file, out, "--reference", data_file, "--splits", 2)[0] == 0


def test_a_config_in_another_encoding_is_explained(latdiff, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("description: für alle".encode("latin-1"))
    code, _, err = latdiff("check", path)
    assert code == 1
    assert "UTF-8" in err


def test_the_version_is_printed(latdiff):
    assert latdiff("--version")[1].strip() == f"latdiff {latdiff_core.__version__}"


def test_split_holds_out_a_share_of_every_type(latdiff, tiny_data, tmp_path):
    data = tiny_data.copy()
    data.obs["cell_type"] = data.obs["cell_type"].astype(object)
    data.obs.iloc[:20, data.obs.columns.get_loc("cell_type")] = np.nan
    data.raw = data
    data.write_h5ad(tmp_path / "cells.h5ad")
    code, printed, _ = latdiff("split", tmp_path / "cells.h5ad", "--by", "cell_type", "--out", tmp_path / "data")
    train, held_out = (anndata.read_h5ad(tmp_path / "data" / f"{name}.h5ad") for name in ("train", "held_out"))
    assert code == 0
    assert f"{len(train)} cells written" in printed
    assert set(train.obs_names) | set(held_out.obs_names) == set(data.obs_names)
    assert len(train) + len(held_out) == len(data)
    for part, share in ((held_out, 0.3), (train, 0.7)):
        counts = part.obs["cell_type"].value_counts(dropna=False) / data.obs["cell_type"].value_counts(dropna=False)
        np.testing.assert_allclose(counts, share, atol=0.05)
        assert (part.X != data[part.obs_names].X).nnz == 0
        assert part.raw.shape == part.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "cell_typ"], "did you mean 'cell_type'"),
        (["--share", "0"], "between 0 and 1"),
        (["--share", "1"], "between 0 and 1"),
    ],
)
def test_split_explains_what_it_cannot_do(latdiff, data_file, tmp_path, options, message):
    code, _, error = latdiff("split", data_file, "--out", tmp_path / "data", *options)
    assert code == 1
    assert message in " ".join(error.split())
    assert not (tmp_path / "data").exists()


def test_split_does_not_replace_what_it_splits(latdiff, data_file, tmp_path):
    latdiff("split", data_file, "--out", tmp_path)
    before = (tmp_path / "train.h5ad").read_bytes()
    assert "exists" in latdiff("split", data_file, "--out", tmp_path)[2]
    code, _, error = latdiff("split", tmp_path / "train.h5ad", "--out", tmp_path, "--overwrite")
    assert code == 1
    assert "to be read and to be written" in " ".join(error.split())
    assert (tmp_path / "train.h5ad").read_bytes() == before


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_device_is_not_replaced(latdiff, data_file, tmp_path, option):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code, _, error = latdiff("evaluate", data_file, data_file, "--reference", data_file, option, pipe, "--overwrite")
    assert code == 1
    assert "no file but a device or a pipe" in " ".join(error.split())
    assert pipe.is_fifo()
