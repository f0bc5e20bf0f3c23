"""The embedded data and the demo."""

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
from latdiff_core.demo import run_demo
from latdiff_core.errors import OutputExistsError


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
