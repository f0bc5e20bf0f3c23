"""A vector from obsm as a condition, on the whole road, beside a categorical one and with missing values."""

from __future__ import annotations

import numpy as np
import pytest

from latdiff_core import LatentDiffusion

CONDITIONS = ["cell_type", {"kind": "vector", "key": "drug", "missing": "allow"}]


@pytest.fixture(scope="module")
def drugged(tiny_data):
    """The tiny data with a drug vector per cell, missing in ten cells."""
    cells = tiny_data.copy()
    vectors = np.random.default_rng(0).normal(size=(4, 3))
    drug = vectors[np.arange(cells.n_obs) % 4]
    drug[:10] = np.nan
    cells.obsm["drug"] = drug
    return cells


@pytest.fixture(scope="module")
def model(make_model, drugged) -> LatentDiffusion:
    return make_model(conditions=CONDITIONS).fit(drugged, progress=False)


def test_a_vector_is_asked_for_and_comes_back_in_obsm(model, drugged):
    drug = drugged.obsm["drug"][20]
    cells = model.generate(6, {"cell_type": "B", "drug": drug})
    np.testing.assert_allclose(cells.obsm["drug"], np.tile(drug, (6, 1)), rtol=1e-6)
    assert (cells.obs["cell_type"] == "B").all()


def test_a_vector_can_be_asked_for_as_text(model):
    """As the command line has it: --where drug=0,1,0."""
    asked, typed = (model.generate(5, {"drug": drug}) for drug in ([0.0, 1.0, 0.0], "0,1, 0"))
    np.testing.assert_array_equal(asked.obsm["drug"], typed.obsm["drug"])
    assert (asked.X != typed.X).nnz == 0


def test_a_vector_never_seen_can_be_asked_for(model):
    assert model.generate(5, {"drug": [9.0, 9.0, 9.0]}).n_obs == 5


def test_what_is_drawn_is_a_whole_vector_of_a_training_cell(model, drugged):
    drawn = model.generate(40).obsm["drug"]
    seen = np.unique(drugged.obsm["drug"][10:], axis=0).astype(np.float32)
    known = ~np.isnan(drawn).any(1)
    assert known.sum() > 20
    assert all((row == seen).all(1).any() for row in drawn[known])


def test_it_survives_saving(model, tmp_path):
    model.save(tmp_path / "run")
    loaded = LatentDiffusion.load(tmp_path / "run")
    asked = {"drug": [0.0, 1.0, 2.0]}
    assert (loaded.generate(20, asked).X != model.generate(20, asked).X).nnz == 0
