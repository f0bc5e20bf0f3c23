"""What a condition does to expression: effects and marker genes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from latdiff_core.cpu import one_numba_thread
from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.conditions import inside_outside
from latdiff_core.evaluation.metrics.genes import correlation
from latdiff_core.evaluation.metrics.metric import Metric, Score

MARKERS = 50
FEWEST_TESTED = 2


class ConditionEffects(Metric):
    """Each condition against its control, or against all other cells where it has none, averaged over conditions.

    The effect is the difference of the mean log-normalised profiles: unlike whole profiles, whose correlation is high
    for any cells of one tissue, it is about 0 for a generator that ignores the condition.
    """

    title = "Effects"
    scores: ClassVar = {
        "effect_correlation": Score(
            "effects, correlation", "Correlation over genes of a condition's effect in these cells and in real ones."
        ),
        "effect_error": Score(
            "effects, relative error", "Size of the error of the effect over the size of the effect; 1 is no effect."
        ),
        "marker_overlap": Score(
            "marker genes found", "Share of the 50 strongest marker genes of a condition that are also those of real."
        ),
    }
    needs_labels = True

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        comparisons = [pair for pair in reference.effects.items() if _fewest(half.labels, *pair) >= FEWEST_TESTED]
        overlaps = _overlaps(cells, half, comparisons)
        rows = [(*_compare(cells, half, *pair), overlaps[pair[0]]) for pair in comparisons]
        means = np.ma.masked_invalid(rows).mean(0).filled(np.nan) if rows else np.full(3, np.nan)
        return dict(zip(self.scores, map(float, means), strict=True))


def _compare(cells: CellSet, half: CellSet, label: str, control: str | None) -> tuple[float, float]:
    """Correlation and relative error of the effect; cells that lack a side show none."""
    if _fewest(cells.labels, label, control) == 0:
        return 0.0, 1.0
    fake, real = _effect(cells, label, control), _effect(half, label, control)
    return correlation(fake, real), float(np.linalg.norm(fake - real) / np.linalg.norm(real))


def _effect(cells: CellSet, label: str, control: str | None) -> np.ndarray:
    inside, outside = inside_outside(cells.labels, label, control)
    return np.asarray(cells.values[inside].mean(0) - cells.values[outside].mean(0)).ravel()


def _fewest(labels: np.ndarray, label: str, control: str | None) -> int:
    """Cells of a condition or of what it is compared with, whichever are fewer."""
    return int(min(rows.sum() for rows in inside_outside(labels, label, control)))


def _overlaps(cells: CellSet, half: CellSet, comparisons: Sequence[tuple[str, str | None]]) -> dict[str, float]:
    """Share of each condition's markers in common; none where nothing is expressed, or a side has no cells.

    NaN where there are too few genes to choose from, or cells to test.
    """
    fewest = {label: _fewest(cells.labels, label, control) for label, control in comparisons}
    shares = {label: 0.0 if n == 0 else float("nan") for label, n in fewest.items()}
    if cells.values.shape[1] < 2 * MARKERS:
        return shares
    tested = [pair for pair in comparisons if fewest[pair[0]] >= FEWEST_TESTED]
    if cells.values.count_nonzero() == 0:  # scanpy would name any genes, and take zeros for raw counts
        return shares | {label: 0.0 for label, _ in tested}
    fake, real = (_markers(s, tested) for s in (cells, half))
    return shares | {label: len(fake[label] & real[label]) / max(1, len(real[label])) for label, _ in tested}


def _markers(cells: CellSet, comparisons: Sequence[tuple[str, str | None]]) -> dict[str, set[str]]:
    """The genes with the highest t-statistics of each condition, by scanpy, in one call for each control."""
    import anndata
    import pandas as pd

    names, codes = np.unique(cells.labels, return_inverse=True)
    code = {name: str(i) for i, name in enumerate(names)}  # no condition is then called "rest"
    obs = pd.DataFrame({"condition": pd.Categorical(codes.astype(str))}, index=np.arange(len(cells)).astype(str))
    adata = anndata.AnnData(cells.values, obs=obs)
    found: dict[str, set[str]] = {}
    with warnings.catch_warnings(), one_numba_thread():
        warnings.simplefilter("ignore")  # on genes that do not vary
        import scanpy

        for control in {control for _, control in comparisons}:
            labels = [label for label, other in comparisons if other == control]
            reference = "rest" if control is None else code[control]
            scanpy.tl.rank_genes_groups(
                adata, "condition", groups=[code[label] for label in labels], reference=reference,
                n_genes=MARKERS, method="t-test",
            )  # fmt: skip
            ranked = adata.uns["rank_genes_groups"]["names"]
            found |= {label: set(ranked[code[label]]) for label in labels}
    return found
