"""The Python door: fit, generate, embed, save, load."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from latdiff_core import LatentDiffusion


def test_generated_cells_are_integer_counts_with_the_asked_conditions(fitted_model, tiny_data):
    cells = fitted_model.generate(30, {"cell_type": "NK", "dose": 1.0})
    assert sparse.isspmatrix_csr(cells.X)
    assert cells.X.dtype.kind == "i"
    assert cells.X.min() >= 0
    assert set(cells.obs["cell_type"]) == {"NK"}
    assert list(cells.var_names) == list(tiny_data.var_names)


def test_a_table_asks_for_each_cell(fitted_model):
    table = pd.DataFrame({"cell_type": ["B", "T", "NK"], "dose": [0.0, 10.0, 1.0]})
    cells = fitted_model.generate(conditions=table)
    assert list(cells.obs["cell_type"]) == ["B", "T", "NK"]
    assert list(cells.obs["dose"]) == [0.0, 10.0, 1.0]


def test_a_loaded_model_generates_the_same_cells(fitted_model, tmp_path):
    fitted_model.save(tmp_path / "run")
    loaded = LatentDiffusion.load(tmp_path / "run")
    ours, theirs = fitted_model.generate(20, seed=3), loaded.generate(20, seed=3)
    assert (ours.X != theirs.X).nnz == 0
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)


def test_embedding_matches_genes_by_name(fitted_model, tiny_data):
    shuffled = tiny_data[:, ::-1].copy()
    np.testing.assert_allclose(fitted_model.embed(shuffled), fitted_model.embed(tiny_data), atol=1e-6)
