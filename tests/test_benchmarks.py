"""The benchmark tables are what the stored runs say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

from latdiff_core.configs import dump_config

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", ["quality", "ablation"])
def test_every_stored_run_is_in_the_table_with_its_floor(name):
    table = pd.read_csv(BENCHMARKS / "results" / f"{name}.csv")
    page = (BENCHMARKS.parent / "book" / f"{name}.md").read_text()
    runs = [json.loads(path.read_text()) for path in (BENCHMARKS / "results" / name).glob("*.json")]
    made = table[table["side"] == "generated"].set_index(["data", "generator", "seed"])
    assert len(runs) == len(made) > 0
    for run in runs:
        scores = run["evaluation"]["scores"]
        row = made.loc[(run["data"], run["generator"], run["seed"])]
        assert row["W2 / floor"] == pytest.approx(scores["w2"]["generated"] / scores["w2"]["real"], rel=1e-4)
        assert row["AUC genes"] == pytest.approx(scores["auc_genes"]["generated"], rel=1e-4)
        assert f"| {run['generator']} |" in page


def test_every_measured_speed_is_in_the_table():
    page = (BENCHMARKS.parent / "book" / "speed.md").read_text()
    documents = [json.loads(path.read_text()) for path in (BENCHMARKS / "results").glob("speed*/*.json")]
    rows = [row for document in documents for row in document["rows"]]
    assert len(rows) == page.count("\n| ") - page.count("\n| work |")
    for row in rows:
        assert f"| {row['work']} |" in page
        assert f"| {row['latdiff']} |" in page


def test_a_run_is_repeated_once_its_recipe_says_another_number(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    runs, recipe = importlib.import_module("runs"), importlib.import_module("generators").Recipe("default")
    path, config = tmp_path / "run.json", dump_config(recipe.config(0))

    def outdated(stored: str) -> bool:
        path.write_text(json.dumps({"config": stored}))
        return runs.is_outdated(path, recipe, seed=0)

    assert not outdated(config)
    assert not outdated(config.replace("description: ", "description: once "))
    assert outdated(config.replace("latent_dim: 32", "latent_dim: 31"))
    assert outdated(config.replace("latent_dim: 32", "latent_dimensions: 32"))
    assert outdated(dump_config(recipe.config(1)))
