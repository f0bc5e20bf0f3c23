"""What an evaluation found: tables, JSON, and how each figure stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from latdiff_core.evaluation.baselines import BASELINES
from latdiff_core.evaluation.metrics import METRICS, Metric, Score
from latdiff_core.evaluation.prepare import Prepared
from latdiff_core.paths import write_text

GENERATED, REAL = "generated", "real"
Standing = Literal["like real", "between", "trivial", "beyond real", "cannot tell", "unknown"]
INTERVAL = 1.96
WORST_GENES = 50
ROUNDING = 1e-9

SCORES: Mapping[str, Score] = {key: score for metric in METRICS for key, score in metric.scores.items()}
"""Every score that an evaluation gives unless told otherwise, by its key: its name in the table, and what it asks."""


@dataclass(frozen=True)
class Evaluation:
    """Generated cells against held-out ones.

    Attributes
    ----------
    values
        Every measurement: columns ``score``, ``side``, ``split`` and ``value``.
    conditions
        Per condition, distances and label accuracy of generated cells; with the suffix ``_real``, of real ones; with
        ``_reach``, how far chance puts the two apart: the half-interval of their difference; and with ``_trivial``, of
        the trivial generator nearest to real, over the first few splits that it takes part in.
    genes
        Per gene, the distance of its distribution from real and the floor of that, the worst first.
    settings
        Sizes, seed, and notes on what was left out.
    metrics
        What was asked.
    cells
        What was compared, for figures.
    """

    values: pd.DataFrame
    conditions: pd.DataFrame
    genes: pd.DataFrame
    settings: Mapping[str, Any]
    metrics: tuple[Metric, ...] = field(repr=False)
    cells: Prepared = field(repr=False)

    @property
    def metric_of(self) -> dict[str, Metric]:
        """What gave each score, by the score's key."""
        return {key: metric for metric in self.metrics for key in metric.scores}

    @property
    def scores(self) -> dict[str, Score]:
        """Every score that was asked for, by its key: its name in the table, and what it asks."""
        return {key: metric.scores[key] for key, metric in self.metric_of.items()}

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per score: ``generated``, ``real``, each baseline, intervals (``_low``, ``_high``), ``standing``.

        ``distance`` and ``trivial`` are how far generated cells and the ``nearest`` trivial generator are from the
        floor, ``reach`` how far chance puts them: the half-interval of the difference, both sides of which meet the
        same half. A trivial generator is compared in the few splits that it takes part in. ``beyond`` is whether real
        cells lie between generated ones and all trivial generators.
        """
        grouped = self.values.groupby(["score", "side"], sort=False)["value"]
        means, spread = grouped.mean().unstack(), INTERVAL * grouped.std().unstack()
        table = means.reindex(list(self.scores))[[GENERATED, REAL, *BASELINES]]
        for side in (GENERATED, REAL, *BASELINES):
            table[f"{side}_low"] = table[side] - spread[side]
            table[f"{side}_high"] = table[side] + spread[side]
        pairs = self.values.pivot(index=["score", "split"], columns="side", values="value")
        table["reach"] = INTERVAL * (pairs[GENERATED] - pairs[REAL]).groupby("score").std()
        table["distance"] = (table[GENERATED] - table[REAL]).abs()
        shared = pairs.where(pairs[list(BASELINES)].notna().any(axis=1))  # splits that have trivial generators
        off = shared[[GENERATED, *BASELINES]].sub(shared[REAL], axis=0).groupby("score").mean()
        compared = {key: off.loc[key, list(metric.baselines)].dropna() for key, metric in self.metric_of.items()}
        nearest = {key: values.abs().idxmin() if len(values) else None for key, values in compared.items()}
        table["nearest"] = pd.Series(nearest, dtype=object)
        table["trivial"] = pd.Series({key: values.abs().min() for key, values in compared.items()})
        side = np.sign(table[GENERATED] - table[REAL])
        beyond = {key: len(values) > 0 and bool((values * side[key] < 0).all()) for key, values in compared.items()}
        table["beyond"] = pd.Series(beyond)
        beside = off[GENERATED].abs()
        table["standing"] = [_standing(row, beside[key]) for key, row in table.iterrows()]
        return table

    def to_json(self) -> str:
        """Scores, conditions, the fifty worst genes and the settings; what has no value is null."""
        document = {
            "settings": dict(self.settings),
            "scores": {key: {"name": self.scores[key].name, **row} for key, row in _records(self.table).items()},
            "conditions": _records(self.conditions),
            "worst_genes": _records(self.genes.head(WORST_GENES)),
        }
        return json.dumps(document, indent=2, allow_nan=False)

    def save(self, path: str | Path) -> None:
        """Write the JSON whole or not at all, replacing what is there."""
        write_text(Path(path), self.to_json())


def _standing(row: pd.Series, beside: float) -> Standing:
    """How generated cells stand: like real if no farther from the floor than chance reaches.

    ``beside`` is how far from it they are in the splits that trivial generators take part in.

    Where chance reaches as far as a trivial generator is, the score cannot tell anything from anything.
    """
    if not np.isfinite(row["distance"]):
        return "unknown"
    if row["distance"] <= row["reach"]:
        return "cannot tell" if row["trivial"] <= row["reach"] else "like real"
    if beside >= row["trivial"] * (1 - ROUNDING):
        return "trivial"
    return "beyond real" if row["beyond"] else "between"


def _records(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = {str(key): row.to_dict() for key, row in table.astype(object).iterrows()}
    return {key: {name: _plain(value) for name, value in row.items()} for key, row in rows.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
