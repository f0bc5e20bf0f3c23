"""Generated cells against held-out real ones, each figure beside its floor and trivial baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latdiff_core.data import open_anndata
from latdiff_core.errors import DataError, require_seed
from latdiff_core.evaluation.baselines import BASELINE_SPLITS, TRIVIAL, baseline_counts
from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.conditions import control_values, some_of
from latdiff_core.evaluation.metrics import METRICS, Metric, mmd2, wasserstein2
from latdiff_core.evaluation.metrics.genes import gene_wasserstein, zero_share
from latdiff_core.evaluation.prepare import Prepared, prepare
from latdiff_core.evaluation.result import GENERATED, INTERVAL, REAL, Evaluation
from latdiff_core.progress import progress_bar

if TYPE_CHECKING:
    from anndata import AnnData

SPLITS = 10
FEWEST_SPLITS = 5
"""Of fewer the interval of a difference is hardly known."""
FEWEST_OF_CONDITION = 10


def evaluate(
    real: AnnData | str | Path,
    synthetic: AnnData | str | Path,
    reference: AnnData | str | Path,
    conditions: Sequence[str] | str | None = None,
    *,
    control: Mapping[str, object] | None = None,
    layer: str | None = None,
    seed: int = 0,
    splits: int = SPLITS,
    metrics: Sequence[Metric] = METRICS,
    progress: bool = False,
) -> Evaluation:
    """Compare generated cells with held-out real ones.

    The held-out cells are split in two at random, several times. As many generated cells are compared with one half;
    the other half with the same half, which is the floor: what a perfect generator would score. Trivial generators
    made from the training cells are compared likewise. Training cells took part in fitting the space and are no floor.

    Each figure is the mean over the splits. Its interval is 1.96 standard deviations over the splits to either side:
    half-samples without replacement estimate the standard error of the whole sample (Shao & Wu 1989, Annals of
    Statistics 17:1176), where a bootstrap with replacement would put duplicates before distances, neighbours and
    classifiers. For halves of both, a random part of the larger set is compared, as many cells as the smaller one has.

    Parameters
    ----------
    real
        Held-out cells with raw counts, at least 20, in memory or in a file; above 4,000 a random 4,000 are taken. Of
        ``X`` in an ``.h5ad``, dense or CSR, only the counts of those cells are read.
    synthetic
        Generated cells, at least 20; above 4,000 a random 4,000 are taken.
    reference
        The training cells; above 20,000 metrics learn from a random 20,000, and look for copies among all.
    conditions
        Columns of ``obs`` that cells were generated for; those that the generated cells name when None.
    control
        The value of a condition that the others are compared with, such as ``{"condition": "control"}``; by default
        each is compared with all other cells.
    layer
        Layer with the raw counts of the real cells; ``X`` when None.
    seed
        Of the splits, subsamples, baselines and classifiers; a whole number from 0 of 32 bits.
    metrics
        Which of ``METRICS`` to ask; on small data the classifiers of two samples take most of the time. Without
        conditions those that need labels are left out.

    Raises
    ------
    DataError
        If genes differ, a column is missing, there are too few cells, no metric can be asked, or it is no seed.
    """
    if splits < 2:
        raise DataError(f"{splits} splits tell nothing of chance; give at least 2")
    if not metrics:
        raise DataError("no metric was asked for; by default all of METRICS are")
    require_seed(seed, 0, 2**32)
    control = control_values(control)
    given = {"held-out": real, "generated": synthetic, "training": reference}
    paths = {what: str(cells) for what, cells in given.items() if isinstance(cells, str | Path)}
    with ExitStack() as files:
        real, synthetic, reference = (files.enter_context(open_anndata(of)) for of in (real, synthetic, reference))
        cells = prepare(real, synthetic, reference, conditions, control, layer, seed)
        sizes = {"held_out_cells": real.n_obs, "generated_cells": synthetic.n_obs, "training_cells": reference.n_obs}
    labelled = len(cells.reference.labels) > 1
    metrics = [metric for metric in metrics if labelled or not metric.needs_labels]
    if not metrics:
        have = (
            f"the training cells have {str(cells.reference.labels[0])!r} alone"
            if cells.conditions
            else "none are compared"
        )
        asked = f"no metric was asked for that does without conditions, of which {have}; ask for another one"
        raise DataError(" ".join([asked, *cells.notes]))
    rng, of_others = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    held_out, made = (_some(of, 2 * cells.n, of_others) for of in (cells.real, cells.synthetic))
    baselines = _baselines(cells, made.labels, of_others)
    rows: list[dict[str, object]] = []
    by_condition: list[dict[str, object]] = []
    by_gene: list[np.ndarray] = []
    with progress_bar("evaluating", splits * len(metrics), progress, "measurements") as advance:
        for split in range(splits):
            half, other = (held_out[rows] for rows in np.split(rng.permutation(2 * cells.n), 2))
            chosen = rng.choice(2 * cells.n, cells.n, replace=False)
            sides = {GENERATED: made[chosen], REAL: other}
            if split < BASELINE_SPLITS:
                sides |= {name: members[chosen] for name, members in baselines.items()}
            for metric in metrics:
                for side, members in sides.items():
                    values = metric.measure(members, half, cells.reference)
                    rows += [{"score": key, "side": side, "split": split, "value": v} for key, v in values.items()]
                advance(1)
            if labelled:
                found = _by_condition(sides, half, cells.reference)
                by_condition += [{"split": split, **row} for row in found]
            if split < BASELINE_SPLITS:
                by_gene.append(np.stack([gene_wasserstein(sides[s].values, half.values) for s in (GENERATED, REAL)]))
    compared = _by_condition_table(by_condition)
    return Evaluation(
        values=pd.DataFrame(rows),
        conditions=compared,
        genes=_gene_table(cells, np.mean(by_gene, axis=0)),
        settings={
            **sizes, "genes": len(cells.reference.genes), "cells_per_side": cells.n, "splits": int(splits),
            "seed": int(seed), "components": cells.reference.space.loadings.shape[1],
            "conditions": list(cells.conditions), "control": control, "files": paths,
            "notes": [*_on_few_splits(splits), *cells.notes, *_left_out(compared, cells.reference)],
        },
        metrics=tuple(metrics),
        cells=cells,
    )  # fmt: skip


def _on_few_splits(splits: int) -> list[str]:
    """A note where intervals are of too few halves to be relied on."""
    return [f"Of {splits} splits, how far chance reaches is known roughly."] if splits < FEWEST_SPLITS else []


def _some(cells: CellSet, most: int, rng: np.random.Generator) -> CellSet:
    """A random part of the larger set: of fresh cells in every split, halves would vary too much."""
    return cells if len(cells) == most else cells[np.sort(rng.choice(len(cells), most, replace=False))]


def _baselines(cells: Prepared, labels: np.ndarray, rng: np.random.Generator) -> dict[str, CellSet]:
    """A cell of each trivial generator for every generated one, of its condition."""
    training = cells.reference.cells
    made = baseline_counts(training.counts, training.labels, labels, rng)
    return {name: cells.cell_set(counts, labels) for name, counts in made.items()}


def _by_condition(sides: Mapping[str, CellSet], half: CellSet, reference: Reference) -> list[dict[str, object]]:
    """Distances and label accuracy of the cells of each condition that has enough on every side."""
    rows: list[dict[str, object]] = []
    judged = {side: sides[side] for side in (GENERATED, REAL, *TRIVIAL) if side in sides}
    for label in reference.labels:
        chosen = {side: np.flatnonzero(cells.labels == label) for side, cells in judged.items()}
        ours = half[half.labels == label]
        n = min(len(ours), *map(len, chosen.values()))
        if n < FEWEST_OF_CONDITION:
            continue
        for side, members in chosen.items():
            theirs = sides[side][members[:n]]
            accuracy = (reference.classifier.predict(theirs.points) == label).mean()
            distances = wasserstein2(theirs.points, ours.points[:n]), mmd2(theirs.points, ours.points[:n])
            values = dict(zip(("w2", "mmd2", "label_accuracy"), (*distances, float(accuracy)), strict=True))
            rows.append({"condition": label, "side": side, "cells": n, **values})
    return rows


def _by_condition_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Means over the splits: a row per condition, columns such as ``w2``, ``w2_real``, ``w2_reach``, ``w2_trivial``."""
    if not rows:
        return pd.DataFrame(columns=["cells"], index=pd.Index([], name="condition"))
    found = pd.DataFrame(rows).pivot(index=["condition", "split"], columns="side")
    columns = {"cells": found["cells"][GENERATED].groupby("condition").mean().astype(int)}
    for key in found.columns.levels[0].drop("cells"):
        of_sides = found[key].reindex(columns=[GENERATED, REAL, *TRIVIAL])  # of trivial ones there may be none
        means = of_sides.groupby("condition").mean()
        off = of_sides.sub(of_sides[REAL], axis=0).groupby("condition")  # in splits that have both
        columns |= {key: means[GENERATED], f"{key}_real": means[REAL], f"{key}_reach": INTERVAL * off[GENERATED].std()}
        columns[f"{key}_trivial"] = _nearest(means[list(TRIVIAL)], off[list(TRIVIAL)].mean().abs())
    return pd.DataFrame(columns)


def _nearest(values: pd.DataFrame, off: pd.DataFrame) -> pd.Series:
    """Of each row the value that is least off."""
    return values.where(off.eq(off.min(axis=1), axis=0)).bfill(axis=1).iloc[:, 0]


def _left_out(conditions: pd.DataFrame, reference: Reference) -> list[str]:
    """A note on the conditions that are too small to be compared one by one."""
    few = [label for label in reference.labels if label not in conditions.index]
    if len(reference.labels) == 1 or not few:
        return []
    return [f"Fewer than {FEWEST_OF_CONDITION} cells per side, so not compared one by one: {some_of(few)}."]


def _gene_table(cells: Prepared, distances: np.ndarray) -> pd.DataFrame:
    """Each gene's distance from real, the floor of it, and moments, the worst genes first."""
    columns: dict[str, np.ndarray] = {"distance": distances[0], "distance_real": distances[1]}
    for side, members in ((GENERATED, cells.synthetic), (REAL, cells.real)):
        columns[f"mean_{side}"] = np.asarray(members.values.mean(0)).ravel()
        columns[f"zeros_{side}"] = zero_share(members.values)
    table = pd.DataFrame(columns, index=pd.Index(cells.reference.genes, name="gene"))
    order = np.argsort(table["distance_real"].to_numpy() - table["distance"].to_numpy(), kind="stable")
    return table.iloc[order]
