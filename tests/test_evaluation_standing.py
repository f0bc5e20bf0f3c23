"""How scores stand: like real cells, like a trivial generator, between or beyond, or that nothing can be told."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from latdiff_core.evaluation import SCORES, evaluate, write_report
from latdiff_core.evaluation.baselines import BASELINES
from latdiff_core.evaluation.metrics import Metric, Score
from latdiff_core.evaluation.metrics.copying import Copying
from latdiff_core.evaluation.metrics.distances import Distances
from latdiff_core.evaluation.result import Evaluation


def test_a_trivial_generator_is_called_so(halves, quick):
    train, held_out, _ = halves
    rates = np.asarray(train.X.mean(0)).ravel()
    counts = sparse.csr_matrix(np.random.default_rng(1).poisson(rates, (200, len(rates))).astype(np.float32))
    fake = anndata.AnnData(counts, obs=held_out.obs[["cell_type"]], var=held_out.var[[]])
    standing = evaluate(held_out, fake, train, ["cell_type"], splits=3).table["standing"]
    assert standing["gene_variance"] == standing["label_accuracy"] == "trivial"
    assert (standing == "like real").sum() < 0.4 * len(standing)


def test_a_copier_is_trivial_in_copying_and_nowhere_like_a_poisson(halves, quick):
    train, held_out, _ = halves
    rows = np.random.default_rng(0).permutation(300)[:200]
    copies = train[rows].copy()
    standing = evaluate(held_out, copies, train, ["cell_type"], splits=3).table["standing"]
    assert standing["nearest_training"] == standing["near_copies"] == "trivial"


@pytest.mark.parametrize("seed", range(6))
def test_copies_are_as_trivial_as_the_copies_that_they_are_compared_with(halves, seed):
    """The copier takes part in a few splits alone, and its copies are as far from real in each as these are."""
    train, held_out, _ = halves
    copies = train[np.random.default_rng(seed).permutation(300)[:200]].copy()
    found = evaluate(held_out, copies, train, ["cell_type"], splits=10, seed=seed, metrics=[Copying()]).table
    assert list(found["standing"]) == ["trivial", "trivial"]


def test_where_chance_reaches_a_trivial_generator_nothing_is_called_real(halves, quick):
    train, held_out, further = halves
    few = evaluate(held_out[:20], further[:20], train, splits=4).table
    blind = few[few["standing"] == "cannot tell"]
    assert len(blind) > 0
    assert (blind["trivial"] <= blind["reach"]).all()
    assert (blind["distance"] <= blind["reach"]).all()


def test_reach_is_the_interval_of_the_difference_of_the_whole_samples():
    """Of two means of 400 cells: half-samples of both give 1.96 standard errors of their difference."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400))
    rows = []
    for split in range(2000):
        halves = {"generated": rng.permutation(x)[:200].mean(), "real": rng.permutation(y)[:200].mean()}
        sides = {**halves, **dict.fromkeys(BASELINES, 5.0)}
        rows += [{"score": "w2", "side": side, "split": split, "value": value} for side, value in sides.items()]
    empty, asked = pd.DataFrame(), (SimpleNamespace(scores={"w2": SCORES["w2"]}, baselines=BASELINES),)
    found = Evaluation(pd.DataFrame(rows), empty, empty, {}, metrics=asked, cells=None).table.loc["w2"]
    assert found["reach"] == pytest.approx(1.96 * np.sqrt((x.var() + y.var()) / 400), rel=0.06)
    assert found["generated_high"] - found["generated"] == pytest.approx(1.96 * x.std() / 20, rel=0.06)


def test_what_no_score_was_taken_of_is_not_called_indistinguishable(halves, quick, tmp_path):
    train, held_out, further = halves
    rng = np.random.default_rng(0)
    for value, verdict in (
        (lambda: np.nan, "No score could be taken of these cells"),
        (rng.normal, "No score can tell these cells from real ones, nor a trivial generator's"),
    ):

        class Given(Metric):
            title, scores = "Any", {"any": Score("any", "Whatever.")}

            def measure(self, cells, half, reference, value=value):
                return {"any": value()}

        write_report(evaluate(held_out, further, train, splits=4, metrics=[Given()]), tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text()
        assert verdict in page
        assert "0 of 0" not in page
        assert "more cannot tell" not in page


@pytest.mark.parametrize(
    ("generated", "standing"), [(6.0, "like real"), (4.0, "beyond real"), (7.0, "between"), (9.0, "trivial")]
)
def test_a_score_on_the_other_side_of_real_cells_is_not_between(perfect, generated, standing):
    """Cells farther from training cells than new real ones are the opposite of copies."""
    of_side = {"generated": generated, "real": 5.9, **dict.fromkeys(BASELINES, 9.0), "mean profile": 8.0}
    rows = [
        {"score": key, "side": side, "split": split, "value": value + (0.2 * split if side == "generated" else 0)}
        for key in ("w2", "mmd2")
        for split in range(2)
        for side, value in of_side.items()
    ]
    found = replace(perfect, values=pd.DataFrame(rows), metrics=(Distances(),))
    assert found.table.loc["w2", "standing"] == standing
    assert json.loads(found.to_json())["scores"]["w2"]["beyond"] is (generated < 5.9)


def test_what_no_trivial_generator_was_measured_by_has_no_nearest_one(perfect):
    rows = [
        {"score": key, "side": side, "split": split, "value": value + 0.1 * split}
        for key in ("w2", "mmd2")
        for split in range(2)
        for side, value in {"generated": 3.0, "real": 5.0, **dict.fromkeys(BASELINES, np.nan)}.items()
    ]
    row = replace(perfect, values=pd.DataFrame(rows), metrics=(Distances(),)).table.loc["w2"]
    assert (row["standing"], row["nearest"], row["beyond"]) == ("between", None, False)


def test_trivial_generators_are_compared_with_real_cells_in_the_splits_that_have_both(perfect):
    """Generators that miss some halves would otherwise be judged by how those differ from the others."""
    of_side = {"generated": 3.0, "real": 3.0, **dict.fromkeys(BASELINES, 9.0), "mean profile": 3.5}
    rows = [
        {"score": key, "side": side, "split": split, "value": value + 4 * split}
        for key in ("w2", "mmd2")
        for split in range(2)
        for side, value in of_side.items()
        if split == 0 or side in ("generated", "real")
    ]
    row = replace(perfect, values=pd.DataFrame(rows), metrics=(Distances(),)).table.loc["w2"]
    assert (row["real"], row["nearest"], row["trivial"]) == (5.0, "mean profile", 0.5)
