"""The evaluation as a whole: floors, baselines, subsampling, refusals, JSON, report and figures."""

from __future__ import annotations

import json
import re
import tracemalloc

import anndata
import numba
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from latdiff_core.errors import DataError
from latdiff_core.evaluation import METRICS, SCORES, evaluate, overview_figure, write_report
from latdiff_core.evaluation.baselines import BASELINES
from latdiff_core.evaluation.figures import _umap
from latdiff_core.evaluation.metrics import Metric, Score
from latdiff_core.evaluation.metrics.distances import Distances
from latdiff_core.evaluation.prepare import _content
from latdiff_core.trial import run_demo


def test_a_perfect_generator_is_like_real(perfect):
    table = perfect.table
    assert set(table.index) == set(SCORES)
    assert table["standing"].isin(["like real", "cannot tell"]).mean() > 0.9, table["standing"].to_dict()
    assert (table["standing"] == "like real").sum() > 10
    assert table.loc["w2", "generated"] == pytest.approx(table.loc["w2", "real"], rel=0.06)
    assert abs(table.loc["mmd2", "generated"]) < 0.01
    assert perfect.settings["cells_per_side"] == 100
    assert (table["real_low"] <= table["real"]).all()


def test_baselines_stand_beside_every_score(perfect):
    assert perfect.table[list(BASELINES)].notna().all(axis=None)
    assert perfect.table.loc["auc_genes", "mean profile"] > 0.8
    assert perfect.table.loc["auc_genes", "mean profile_low"] < perfect.table.loc["auc_genes", "mean profile"]
    assert perfect.table.loc["nearest_training", "training cells"] == pytest.approx(0, abs=1e-3)


def test_some_of_the_metrics_give_the_same_scores_as_all(perfect, halves, quick, tmp_path):
    train, held_out, further = halves
    chosen = [metric for metric in METRICS if {"w2", "nearest_training"} & set(metric.scores)]
    some = evaluate(held_out, further, train, ["cell_type"], splits=4, metrics=chosen)
    assert list(some.table.index) == ["w2", "mmd2", "nearest_training", "near_copies"]
    pd.testing.assert_frame_equal(some.table, perfect.table.loc[some.table.index])
    write_report(some, tmp_path / "report.html")
    assert "near-copies" in (tmp_path / "report.html").read_text()


def test_baselines_have_other_cells_in_every_split(halves, quick):
    """Of the conditions of generated cells, but not just those of the half they are compared with."""
    train, held_out, further = halves
    seen: list[tuple[list[str], list[str]]] = []

    class Spy(Metric):
        title, scores = "Distances", {"w2": SCORES["w2"]}

        def measure(self, cells, half, reference):
            seen.append((sorted(cells.labels), sorted(half.labels)))
            return {"w2": 0.0}

    evaluate(held_out, further, train, ["cell_type"], splits=2, metrics=[Spy()])
    poisson = [seen[2], seen[7]]  # generated, real, and three baselines in each split
    assert poisson[0][0] != poisson[1][0]
    assert all(of_baseline != of_half for of_baseline, of_half in poisson)


def test_conditions_with_enough_cells_have_their_own_rows(perfect, halves):
    table = perfect.conditions
    sizes = halves[1].obs["cell_type"].value_counts()
    assert set(table.index) <= set(sizes[sizes >= 20].index)
    assert "Dendritic" in table.index
    assert table.loc["Dendritic", "w2"] == pytest.approx(table.loc["Dendritic", "w2_real"], rel=0.2)
    assert (table[["w2_reach", "mmd2_reach"]].fillna(1.0) > 0).all(axis=None)
    assert table["w2_trivial"].notna().all()
    assert table["label_accuracy_trivial"].between(0, 1).all()
    few = sorted(set(perfect.cells.reference.labels) - set(table.index))
    assert len(few) > 5
    said = f"not compared one by one: {', '.join(few[:5])} and {len(few) - 5} more."
    assert sum(said in note for note in perfect.settings["notes"]) == 1


def test_the_worst_genes_come_first(halves, quick):
    train, held_out, further = halves
    counts = further.X.toarray()
    counts[:, 17] = 50
    fake = anndata.AnnData(sparse.csr_matrix(counts), obs=further.obs, var=further.var)
    genes = evaluate(held_out, fake, train, splits=2).genes
    assert genes.index[0] == held_out.var_names[17]
    assert len(genes) == held_out.n_vars


def test_the_same_seed_gives_the_same_figures(halves, quick):
    train, held_out, further = halves
    first, second = (evaluate(held_out, further, train, splits=2, seed=seed) for seed in (1, np.int64(1)))
    pd.testing.assert_frame_equal(first.values, second.values)
    assert first.to_json() == second.to_json()


def test_the_number_of_threads_stays_as_it_was(halves, quick):
    """numba, below scanpy, raises torch's to all cores, which slows a later fit several-fold on a busy machine."""
    of_numba = numba.get_num_threads()
    train, held_out, further = halves
    evaluate(held_out, further, train, ["cell_type"], splits=2)
    _umap(np.random.default_rng(0).normal(size=(30, 5)), 0)
    assert torch.get_num_threads() == 1
    assert numba.get_num_threads() == of_numba


def test_log_normalised_cells_are_compared_by_what_they_have(halves, quick, tmp_path):
    train, held_out, further = halves
    values = sparse.csr_matrix(np.log1p(further.X.toarray() * 1e4 / further.X.sum(1)), dtype=np.float32)
    fake = anndata.AnnData(values, obs=further.obs, var=further.var, uns={"latdiff": {"expression": "log_normalised"}})
    found, counted = (evaluate(held_out, cells, train, splits=2) for cells in (fake, further))
    assert found.table.loc["w2", "generated"] == pytest.approx(counted.table.loc["w2", "generated"], rel=1e-4)
    assert found.table.loc["library_median", "standing"] == "unknown"
    assert "no library sizes" in found.settings["notes"][1]
    write_report(found, tmp_path / "report.html")
    json.loads(found.to_json())
    fake.uns["latdiff"]["expression"] = "mean counts"
    with pytest.raises(DataError, match="mean counts, which are no cells"):
        evaluate(held_out, fake, train)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1"])
def test_a_seed_that_not_every_library_takes_is_refused_at_once(halves, tmp_path, seed):
    train, held_out, further = halves
    said = "seed is .*; give a whole number from 0 to 4294967295"
    with pytest.raises(DataError, match=said):
        evaluate(held_out, further, train, seed=seed)
    with pytest.raises(DataError, match=said):
        run_demo(tmp_path / "demo", seed=seed)


def test_more_cells_of_one_set_leave_chance_where_it_is(quick):
    """Intervals are of samples of the size of the smaller set, whatever the other one holds beyond it."""
    rng = np.random.default_rng(0)
    var = pd.DataFrame(index=[f"g{i}" for i in range(200)])

    def cells(n):
        return anndata.AnnData(sparse.csr_matrix(rng.poisson(2.0, (n, 200)).astype(np.float32)), var=var)

    class Mean(Metric):
        title, scores = "Mean", {"mean": Score("mean", "Mean count.")}

        def measure(self, cells, half, reference):
            return {"mean": float(cells.counts.mean())}

    train, few, many = cells(100), cells(200), cells(3000)
    expected = 1.96 * np.sqrt(2 * 2.0 / 200 / 200)  # of the difference of two means of 200 cells
    for held_out, generated in ((few, many), (many, few)):
        found = evaluate(held_out, generated, train, splits=400, metrics=[Mean()]).table
        assert found.loc["mean", "reach"] == pytest.approx(expected, rel=0.12)


def test_large_sets_are_subsampled_and_it_is_said(halves, quick, monkeypatch):
    monkeypatch.setattr("latdiff_core.evaluation.prepare.MOST_CELLS", 40)
    monkeypatch.setattr("latdiff_core.evaluation.prepare.MOST_TRAINING_CELLS", 150)
    train, held_out, further = halves
    found = evaluate(held_out, further, train, splits=2)
    assert found.settings["cells_per_side"] == 40
    assert found.settings["notes"][1:] == [
        "A random 80 of the 200 held-out cells were taken (seed 0).",
        "A random 80 of the 200 generated cells were taken (seed 0).",
        "A random 150 of the 300 training cells were taken (seed 0).",
    ]


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "layer", "backed"])
def test_cells_in_a_file_are_compared_like_those_in_memory(halves, quick, tmp_path, monkeypatch, kind):
    for limit, cells in {"MOST_CELLS": 40, "MOST_TRAINING_CELLS": 150, "READ_AT_ONCE": 70}.items():
        monkeypatch.setattr(f"latdiff_core.evaluation.prepare.{limit}", cells)
    sets = []
    for number, cells in enumerate(halves):
        cells = cells.copy()
        if kind == "dense":
            cells.X = cells.X.toarray()
        if kind == "csc":
            cells.X = cells.X.tocsc()
        if kind == "layer" and number < 2:
            cells.layers["raw"] = cells.X
            del cells.X
        path = tmp_path / f"{number}.h5ad"
        cells.write_h5ad(path)
        sets.append(anndata.read_h5ad(path, backed="r") if kind == "backed" else path)
    train, held_out, further = sets
    if kind == "backed":
        held_out = held_out[:]
    chosen = METRICS[:2]
    layer = "raw" if kind == "layer" else None
    found = evaluate(held_out, further, train, ["cell_type"], layer=layer, splits=2, metrics=chosen)
    train, held_out, further = halves
    expected = evaluate(held_out, further, train, ["cell_type"], splits=2, metrics=chosen)
    pd.testing.assert_frame_equal(found.values, expected.values)
    files = dict.fromkeys(("held-out", "generated", "training"), "")
    for what, cells in zip(files, (sets[1], sets[2], sets[0]), strict=True):
        files[what] = str(cells)
    assert found.settings == {**expected.settings, "files": {} if kind == "backed" else files}


def test_counts_that_are_not_compared_stay_in_their_file(tmp_path, quick, monkeypatch):
    """Of many cells only some are compared: those of all need not fit into memory."""
    monkeypatch.setattr("latdiff_core.evaluation.prepare.MOST_CELLS", 50)
    rng, paths = np.random.default_rng(0), []
    var = pd.DataFrame(index=[f"g{i}" for i in range(400)])
    for n in (100, 100, 30_000):
        counts = sparse.csr_matrix(rng.poisson(1.0, (n, 400)).astype(np.float32))
        size = counts.data.nbytes + counts.indices.nbytes
        paths.append(tmp_path / f"{len(paths)}.h5ad")
        anndata.AnnData(counts, var=var).write_h5ad(paths[-1])
    train, held_out, generated = paths
    evaluate(held_out, held_out, train, splits=2, metrics=METRICS[:1])  # what is imported takes memory too
    tracemalloc.start()
    evaluate(held_out, generated, train, splits=2, metrics=METRICS[:1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 2


def test_copies_are_looked_for_among_all_training_cells(halves, quick, monkeypatch):
    monkeypatch.setattr("latdiff_core.evaluation.prepare.MOST_TRAINING_CELLS", 60)
    monkeypatch.setattr("latdiff_core.evaluation.prepare.READ_AT_ONCE", 70)
    train, held_out, _ = halves
    copying = [metric for metric in METRICS if "near_copies" in metric.scores]
    found = evaluate(anndata.concat([held_out, train[-7:]]), train[::2].copy(), train, splits=2, metrics=copying)
    assert found.table.loc["nearest_training", "generated"] == pytest.approx(0, abs=1e-3)
    assert found.settings["notes"][-1].startswith("7 of the 207 held-out cells are among the training cells")


def test_other_genes_few_cells_and_unknown_columns_are_refused(halves):
    train, held_out, further = halves
    with pytest.raises(DataError, match="1 are missing"):
        evaluate(held_out, further[:, 1:], train)
    with pytest.raises(DataError, match="too few"):
        evaluate(held_out[:10], further, train)
    with pytest.raises(DataError, match="held-out cells: obs and obsm have no 'cell_typ'; did you mean 'cell_type'"):
        evaluate(held_out, further, train, ["cell_typ"])
    with pytest.raises(DataError, match="training cells do not differ"), pytest.warns(UserWarning, match="not unique"):
        evaluate(held_out, further, train[[0, 0, 0]].copy(), splits=2)
    with pytest.raises(DataError, match="at least 2"):
        evaluate(held_out, further, train, splits=1)


def test_json_holds_every_score(perfect, tmp_path):
    perfect.save(tmp_path / "evaluation.json")
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(document) == {"settings", "scores", "conditions", "worst_genes"}
    assert document["scores"]["w2"]["generated"] == perfect.table.loc["w2", "generated"]
    assert document["settings"]["seed"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["evaluation.json"], "nothing half-written is left"


def test_the_report_is_one_page_that_needs_no_network(perfect, tmp_path, quick):
    write_report(perfect, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not re.search(r"https?://|<script|@import", page)
    assert len(re.findall(r'<img [^>]*alt="[^"]{20,}"', page)) == 4
    for text in ("like real", *(score.name for score in SCORES.values()), *BASELINES):
        assert text in page
    assert perfect.genes.index[0] in page


def test_the_report_escapes_names(halves, quick, tmp_path):
    """Neither HTML nor matplotlib's formulas are read out of a gene's name."""
    train, held_out, further = (cells.copy() for cells in halves)
    for cells in (train, held_out, further):
        cells.var_names = [rf"<b>{name} $\x$" for name in cells.var_names]
    write_report(evaluate(held_out, further, train, splits=2), tmp_path / "report.html")
    assert "<b>" not in (tmp_path / "report.html").read_text()


def test_the_figure_shows_both_sets_and_every_label(perfect, halves, quick):
    figure = overview_figure(perfect)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["200 held-out real cells", "200 generated cells", "Mean and variance", "Zeros"]
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend == sorted(set(halves[1].obs["cell_type"]) | set(halves[2].obs["cell_type"]))


def test_a_metric_of_ones_own_is_in_table_json_and_report(halves, tmp_path, quick):
    train, held_out, further = halves

    class Depth(Metric):
        title, scores = "Depth", {"deep": Score("deep cells", "Share of the cells with more than 500 counts.")}

        def measure(self, cells, half, reference):
            return {"deep": float((cells.counts.sum(1) > 500).mean())}

    found = evaluate(held_out, further, train, ["cell_type"], splits=2, metrics=[Depth(), Distances()])
    assert list(found.table.index) == ["deep", "w2", "mmd2"]
    assert 0 < found.table.loc["deep", "generated"] < 1
    assert json.loads(found.to_json())["scores"]["deep"]["name"] == "deep cells"
    write_report(found, tmp_path / "report.html")
    assert "Share of the cells with more than 500 counts." in (tmp_path / "report.html").read_text()


def test_a_cell_has_the_same_content_however_its_indices_are_stored(halves):
    counts, stored = halves[0].X, halves[0].X.copy()
    stored.indices = stored.indices.astype(np.int64)
    assert stored.indices.dtype != counts.indices.dtype
    assert [_content(stored, i) for i in range(50)] == [_content(counts, i) for i in range(50)]
