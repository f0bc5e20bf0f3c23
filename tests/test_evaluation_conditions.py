"""What cells are compared by: conditions, their labels and controls, and the effects that are asked for."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from latdiff_core.errors import DataError
from latdiff_core.evaluation import METRICS, evaluate
from latdiff_core.evaluation.conditions import check_labels, condition_table, effects_asked, joined_labels
from latdiff_core.evaluation.evaluation import _by_condition_table


def test_beside_a_condition_stands_the_trivial_generator_nearest_to_real():
    """The nearer of the two by each score, though not in every split there are any."""
    of_side = {"generated": (5.0, 0.9), "real": (4.0, 0.8), "mean profile": (9.0, 0.85), "gene by gene": (3.5, 1.0)}
    rows = [
        {"condition": "B", "side": side, "split": split, "cells": 12, "w2": w2 + split, "label_accuracy": accuracy}
        for split in range(2)
        for side, (w2, accuracy) in of_side.items()
    ]
    few = [{**row, "condition": "T"} for row in rows if row["side"] in ("generated", "real")]
    table = _by_condition_table(rows + few)
    assert _by_condition_table(few)["w2_trivial"].isna().all()
    assert table.loc["B", ["w2_trivial", "label_accuracy_trivial"]].tolist() == [4.0, 0.85]
    assert table.loc["T", ["w2_trivial", "label_accuracy_trivial"]].isna().all()
    assert table.loc["B", ["w2", "w2_real", "cells"]].tolist() == [5.5, 4.5, 12]


def test_trivial_generators_are_compared_with_real_cells_in_the_splits_that_have_both():
    """In others of a condition there may be more cells, and other distances."""
    of_side = {"generated": 5.0, "real": 4.0, "mean profile": 6.0, "gene by gene": 4.5}
    rows = [
        {"condition": "B", "side": side, "split": split, "cells": 12, "w2": w2 + 4 * split}
        for split in range(2)
        for side, w2 in list(of_side.items())[: 4 - 2 * split]
    ]
    assert _by_condition_table(rows).loc["B", ["w2_real", "w2_trivial"]].tolist() == [6.0, 4.5]


def test_generated_cells_say_what_they_are_compared_by(halves, quick):
    train, held_out, further = halves
    said = further.copy()
    said.uns["latdiff"] = {"config": "data: {conditions: [{kind: categorical, key: cell_type}]}"}
    assert evaluate(held_out, said, train, splits=2).settings["conditions"] == ["cell_type"]
    assert "label_accuracy" not in evaluate(held_out, further, train, splits=2).table.index


def test_effects_are_against_the_control_when_there_is_one(halves, quick):
    train, held_out, further = (cells.copy() for cells in halves)
    for i, cells in enumerate((train, held_out, further)):
        treated = np.random.default_rng(i).random(cells.n_obs) < 0.5
        cells.obs["treated"], cells.obs["dose"] = np.where(treated, "yes", "no"), treated.astype(float)
        shift = sparse.csr_matrix(treated[:, None] * (np.arange(765) < 30) * 8.0)
        cells.X = sparse.csr_matrix(cells.X + shift, dtype=np.float32)
    found = evaluate(held_out, further, train, ["treated"], control={"treated": "no"}, splits=2)
    assert found.table.loc["effect_correlation", "generated"] > 0.9
    assert found.settings["control"] == {"treated": "no"}
    for zero in (0, 0.0, np.int64(0), "0.0"):
        same = evaluate(held_out, further, train, ["dose"], control={"dose": zero}, splits=2)
        assert same.settings["control"] == {"dose": "0"}
        assert same.table.loc["effect_error", "generated"] == found.table.loc["effect_error", "generated"]
    with pytest.raises(DataError, match="no training cell has dose = 'True'; known: 0, 1"):
        evaluate(held_out, further, train, ["dose"], control={"dose": True})
    with pytest.raises(DataError, match="no training cell has treated = 'maybe'; known: no, yes"):
        evaluate(held_out, further, train, ["treated"], control={"treated": "maybe"})
    with pytest.raises(DataError, match="which is not compared"):
        evaluate(held_out, further, train, ["cell_type"], control={"treated": "no"})
    for nothing in (None, np.nan, ["no"]):
        with pytest.raises(DataError, match=r"the control of 'treated' is .*; give one value"):
            evaluate(held_out, further, train, ["treated"], control={"treated": nothing})
    train.obs["treated"] = np.where(train.obs["cell_type"] == "Dendritic", "no", "yes")
    with pytest.raises(DataError, match="no other condition of the training cells differs"):
        evaluate(held_out, further, train, ["cell_type", "treated"], control={"treated": "no"})


def test_what_stands_in_the_way_is_said(halves, quick):
    train, held_out, further = halves
    b_cells = further[further.obs["cell_type"].isin(["CD19+ B", "Dendritic"])].copy()
    notes = evaluate(held_out, b_cells, train, ["cell_type"], splits=2).settings["notes"]
    assert any("different proportions" in note for note in notes)
    assert any(note.startswith("No generated cells of CD14+ Monocyte") for note in notes)
    same = anndata.concat([held_out[:20], further[20:]])
    assert any(
        note.startswith("20 of the 200 generated cells are held-out cells")
        for note in evaluate(held_out, same, train, ["cell_type"], splits=2).settings["notes"]
    )
    leaked = evaluate(anndata.concat([held_out, train[:7]]), further, train, splits=2).settings["notes"]
    assert leaked[1:] == [
        "7 of the 207 held-out cells are among the training cells, count for count: they are not held out, the floor "
        "is too low, and copying cannot be seen."
    ]


def test_labels_are_compared_by_what_they_say(halves, quick):
    """Whole numbers are the same label as integers, floats and text; sets that share none are refused."""
    cells = [c.copy() for c in halves]
    for c, kind in zip(cells, (int, float, str), strict=True):
        c.obs["cluster"] = c.obs["cell_type"].cat.codes.astype(int).astype(kind)
    train, held_out, further = cells
    found = evaluate(held_out, further, train, "cluster", splits=2)
    assert found.table.loc["label_accuracy", "generated"] > 0.5
    further.obs["cluster"] += ".0"
    pd.testing.assert_frame_equal(evaluate(held_out, further, train, "cluster", splits=2).values, found.values)
    further.obs["cluster"] = "other"
    with pytest.raises(DataError, match="generated and held-out cells have no condition in common: 'other', and '0'"):
        evaluate(held_out, further, train, "cluster")
    train.obs["cluster"] += 0.5 if train.obs["cluster"].dtype.kind == "f" else 0
    held_out.obs["cluster"] = np.linspace(0, 1, held_out.n_obs)
    with pytest.raises(DataError, match="held-out cells: 'cluster' holds numbers that are no categories"):
        evaluate(held_out, further, train, "cluster")


def test_cells_without_a_value_are_compared_as_such(halves, quick):
    """Where a condition allows missing values, cells are generated without one too."""
    cells = [c.copy() for c in halves]
    for c in cells:
        c.obs["cluster"] = c.obs["cell_type"].astype(object).where(np.arange(c.n_obs) % 3 > 0)
    train, held_out, further = cells
    found = evaluate(held_out, further, train, "cluster", splits=2)
    assert "no value" in found.conditions.index


@pytest.mark.parametrize("kind", [float, "category"])
def test_doses_are_compared_as_the_categories_that_a_model_takes_them_for(halves, quick, kind):
    train, held_out, further = (cells.copy() for cells in halves)
    for i, cells in enumerate((train, held_out, further)):
        cells.obs["dose"] = np.random.default_rng(i).choice([0.0, 0.1, 10.0], cells.n_obs)
        cells.obs["dose"] = cells.obs["dose"].astype(kind)
    asked = [metric for metric in METRICS if "label_accuracy" in metric.scores]
    found = evaluate(held_out, further, train, "dose", splits=2, metrics=asked)
    assert found.cells.reference.labels == ("0", "0.1", "10")
    assert set(found.conditions.index) == {"0", "0.1", "10"}


def test_real_cells_of_rare_conditions_agree_as_well_as_a_perfect_generator(quick):
    """Chosen by what one half has, effects would be asked for where the other half, the floor, has hardly a cell."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.3, size=(25, 300)) + 0.02

    def cells(per_label):
        labels = np.repeat(np.arange(25), per_label)
        counts = rng.poisson(profiles[labels] / profiles.sum(1).mean() * 100).astype(np.float32)
        obs = pd.DataFrame({"guide": labels.astype(str)}, index=np.arange(len(labels)).astype(str))
        return anndata.AnnData(sparse.csr_matrix(counts), obs=obs)

    asked = [metric for metric in METRICS if "effect_correlation" in metric.scores]
    found = [evaluate(cells(10), cells(10), cells(20), "guide", seed=s, metrics=asked).table for s in range(6)]
    shift = pd.concat([table["generated"] - table["real"] for table in found], axis=1).mean(axis=1)
    assert (shift.abs() < 0.03).all(), shift.to_dict()


def test_cells_that_are_not_what_they_are_given_as_are_noted(halves, quick):
    """Generated cells where real ones belong, and training cells that are not those of the model."""
    train, held_out, further = (cells.copy() for cells in halves)
    further.uns["latdiff"] = {"expression": "counts", "data": {"cells": np.int64(train.n_obs + 1)}}
    notes = " ".join(evaluate(held_out, further, train, splits=5).settings["notes"])
    assert f"fitted on {train.n_obs + 1} cells, and {train.n_obs} training cells were given" in notes
    further.uns["latdiff"]["data"]["cells"] = train.n_obs
    assert not evaluate(held_out, further, train, splits=5).settings["notes"]
    swapped = evaluate(further, held_out, train, splits=2).settings["notes"]
    assert [note for note in swapped if "held-out cells say that they were generated" in note]
    assert [note for note in swapped if note.startswith("Of 2 splits")]


def test_conditions_without_a_control_of_their_own_are_named():
    cells = pd.DataFrame({"type": ["B", "B", "T", "M"], "treated": ["yes", "no", "yes", "no"]})
    training = cells.loc[np.repeat(range(4), 30)]
    asked, notes = effects_asked(training, joined_labels(training), {"treated": "no"}, n=60)
    assert asked == {"B | yes": "B | no"}
    assert [note.endswith("have no effects: T | yes.") for note in notes] == [True]


def test_effects_that_are_not_asked_are_named():
    training = pd.DataFrame({"guide": np.repeat(["control", "a", "b"], 50)})
    held_out = np.repeat(["control", "a", "b"], [80, 12, 8])
    asked, notes = effects_asked(training, held_out, {"guide": "control"}, n=50)
    assert asked == {"a": "control"}
    assert [note.endswith("fewer than 5 held-out cells per side no effects are asked: b.") for note in notes] == [True]
    asked, notes = effects_asked(training, np.repeat(["control", "a", "b"], [8, 46, 46]), {"guide": "control"}, n=50)
    assert asked == {}
    assert notes[0].endswith("no effects are asked: a, b.")
    assert effects_asked(training, held_out[:92], {}, n=46)[1] == [notes[0].replace("a, b", "b")]
    assert effects_asked(training[:0].assign(guide=[]), held_out, {}, n=50) == ({}, [])


def test_what_is_measured_of_each_cell_is_no_category():
    """However many cells there are, of which more will have the same value by chance."""
    rng = np.random.default_rng(0)

    def of_cells(numbers):
        return anndata.AnnData(obs=pd.DataFrame({"x": numbers}, index=[f"cell_{i}" for i in range(len(numbers))]))

    for n in (300, 30_000, 300_000):
        with pytest.raises(DataError, match="'x' holds numbers that are no categories"):
            condition_table(of_cells(np.log1p(rng.poisson(9000 * rng.random(n)))), ["x"])
    doses = condition_table(of_cells(np.resize([0.0, 0.1, 0.3, 1.0, 10.0], 12)), ["x"])
    assert set(doses["x"]) == {"0", "0.1", "0.3", "1", "10"}


def test_what_cannot_be_asked_is_said(halves):
    train, held_out, further = halves
    with pytest.raises(DataError, match="the control is 'no'; give a mapping"):
        evaluate(held_out, further, train, ["cell_type"], control="no")
    with pytest.raises(DataError, match="by default all of METRICS are"):
        evaluate(held_out, further, train, metrics=[])
    labels = [metric for metric in METRICS if "label_accuracy" in metric.scores]
    with pytest.raises(DataError, match="without conditions, of which none are compared"):
        evaluate(held_out, further, train, metrics=labels)
    one = [cells.copy() for cells in halves]
    for cells in one:
        cells.obs["batch"] = "first"
    with pytest.raises(DataError, match="without conditions, of which the training cells have 'first' alone"):
        evaluate(one[1], one[2], one[0], "batch", metrics=labels)


def test_chance_is_not_called_different_proportions(halves):
    rng = np.random.default_rng(0)
    for labels, cells in ((20, 100), (100, 200), (300, 1000)):
        drawn = {what: rng.integers(labels, size=cells).astype(str) for what in ("held-out", "generated", "training")}
        assert not [note for note in check_labels(drawn) if "different proportions" in note]
    drawn["generated"] = drawn["generated"][drawn["generated"].astype(int) < 100]
    assert [note for note in check_labels(drawn) if "different proportions" in note]


def test_a_missing_condition_has_no_effect_instead_of_being_left_out(halves, quick):
    train, held_out, further = halves
    whole = evaluate(held_out, further, train, ["cell_type"], splits=2).table
    lacking = further[further.obs["cell_type"] != "Dendritic"].copy()
    part = evaluate(held_out, lacking, train, ["cell_type"], splits=2).table
    assert part.loc["effect_correlation", "generated"] < whole.loc["effect_correlation", "generated"] - 0.05
