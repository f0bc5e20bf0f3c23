"""Batch effects: what is named as nuisance leaves the latent, and generation can be free of it or ask for it."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from latdiff_core import LatentDiffusion
from latdiff_core.cli.asking import read_table
from latdiff_core.errors import DataError

STRONG = 8.0
"""How many times more of the first five genes the second batch has."""
TRAINING = {
    "autoencoder.encoder.hidden": [32],
    "autoencoder.decoder.hidden": [32],
    "training.diffusion": {"steps": 1000, "batch_size": 64, "checks": 2},
    "training.autoencoder": {"epochs": 150, "batch_size": 64, "learning_rate": 0.005},
}


@pytest.fixture(scope="module")
def two_batches() -> anndata.AnnData:
    """400 cells of two types x 30 genes; a fifth of each type comes from a second batch."""
    rng = np.random.default_rng(0)
    types, batches = np.repeat([0, 1], 200), np.tile([0, 0, 0, 0, 1], 80)
    profiles = rng.gamma(1.0, 3.0, size=(2, 30)) + 0.2
    rates = profiles[types] * np.where(np.arange(30) < 5, STRONG ** batches[:, None], 1.0)
    counts = rng.poisson(rates * rng.lognormal(0, 0.2, (400, 1)))
    obs = pd.DataFrame(
        {"cell_type": np.array(["B", "T"])[types], "batch": np.array(["one", "two"])[batches]},
        index=[f"c{i}" for i in range(400)],
    )
    return anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs)


@pytest.fixture(scope="module")
def corrected(make_model, two_batches) -> LatentDiffusion:
    return make_model({**TRAINING, "data.nuisance": ["batch"]}, ["cell_type"]).fit(two_batches, progress=False)


def batch_in(latent: np.ndarray, cells: anndata.AnnData) -> float:
    """How well the batch can be told from the latent; 0.5 is not at all."""
    classifier = LogisticRegression(max_iter=1000, class_weight="balanced")
    return cross_val_score(classifier, latent, cells.obs["batch"], cv=5, scoring="balanced_accuracy").mean()


def share_of_marked_genes(model: LatentDiffusion, **asked: str) -> float:
    counts = model.generate(300, {"cell_type": "B", **asked}, library=500, mean=True).X
    return counts[:, :5].sum() / counts.sum()


def test_the_latent_is_free_of_the_batch(make_model, two_batches, corrected):
    plain = make_model(TRAINING, ["cell_type"]).fit(two_batches, progress=False)
    assert batch_in(plain.embed(two_batches), two_batches) > 0.9
    assert batch_in(corrected.embed(two_batches), two_batches) < 0.7


def test_generation_is_of_the_batch_that_is_asked_for_or_of_the_average(two_batches, corrected):
    real = {
        batch: two_batches[(two_batches.obs["cell_type"] == "B") & (two_batches.obs["batch"] == batch)].X
        for batch in ("one", "two")
    }
    expected = {batch: x[:, :5].sum() / x.sum() for batch, x in real.items()}
    one, two, free = (share_of_marked_genes(corrected, **a) for a in ({"batch": "one"}, {"batch": "two"}, {}))
    assert one == pytest.approx(expected["one"], rel=0.15)
    assert two == pytest.approx(expected["two"], rel=0.15)
    assert one < free < two


def test_cells_say_which_batch_they_are_of(corrected):
    assert corrected.generate(2, {"batch": "two"}).obs["batch"].tolist() == ["two", "two"]
    assert corrected.generate(2).obs["batch"].isna().all()


def test_the_nuisance_is_saved_with_the_model(corrected, two_batches, tmp_path):
    corrected.save(tmp_path / "run")
    loaded = LatentDiffusion.load(tmp_path / "run")
    asked = {"cell_type": "T", "batch": "two"}
    assert (loaded.generate(20, asked).X != corrected.generate(20, asked).X).nnz == 0
    np.testing.assert_array_equal(loaded.embed(two_batches), corrected.embed(two_batches))


def test_embedding_needs_the_batch_of_each_cell(corrected, two_batches):
    unlabelled = two_batches.copy()
    del unlabelled.obs["batch"]
    with pytest.raises(DataError, match="obs and obsm have no 'batch'"):
        corrected.embed(unlabelled)


def test_an_unseen_batch_is_taken_as_the_average_one(corrected, two_batches, tmp_path, caplog):
    """Of a new donor nothing is known; its cells can still be embedded, and a table of them be asked for."""
    new = two_batches[:30].copy()
    new.obs["batch"] = ["three"] * 10 + ["one"] * 20
    latent = corrected.embed(new)
    assert "no training cell had 'three' of 'batch'" in caplog.text
    assert np.isfinite(latent).all()
    new.write_h5ad(tmp_path / "new.h5ad")
    made = corrected.generate(conditions=read_table(tmp_path / "new.h5ad", corrected.fitted.schema.keys))
    assert made.obs["batch"].isna().tolist() == [True] * 10 + [False] * 20
    with pytest.raises(DataError, match="'batch' has no value 'three'"):
        corrected.generate(3, {"batch": "three"})


@pytest.mark.parametrize(("donors", "warned"), [(["a", "b"], False), (["a1", "b1", "a2", "b2"], True), (["a"], False)])
def test_donors_of_one_condition_each_are_warned_of(make_model, tiny_data, caplog, donors, warned):
    """Effects of the condition and of its donors cannot be told apart; of average donors half of it is gone."""
    cells = tiny_data.copy()
    n = np.arange(cells.n_obs)
    cells.obs["state"] = np.where(n % 2 == 0, "case", "control")
    cells.obs["donor"] = np.array(donors)[n % len(donors) if warned else n // 2 % len(donors)]
    make_model({"data.nuisance": ["donor"]}, ["state"]).fit(cells, progress=False)
    assert ("no donor has cells of more than one state" in caplog.text) == warned
