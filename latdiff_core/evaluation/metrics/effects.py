"""What a condition does to expression: effects and marker genes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.metrics.genes import correlation
from latdiff_core.evaluation.metrics.metric import Metric, Score

MARKERS = 50
FEWEST_CELLS = 5


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
        rows = [
            (
                correlation(fake, real),
                float(np.linalg.norm(fake - real) / np.linalg.norm(real)),
                _overlap(cells, half, *pair),
            )
            for pair, fake, real in _effects(cells, half, reference)
        ]
        means = np.mean(rows, axis=0) if rows else np.full(3, np.nan)
        return dict(zip(self.scores, map(float, means), strict=True))


def _effects(
    cells: CellSet, half: CellSet, reference: Reference
) -> Iterator[tuple[tuple[str, str | None], np.ndarray, np.ndarray]]:
    """Each comparison that both sets have enough cells for, with its effect on every gene in both."""
    for label in reference.labels:
        control = reference.contrasts.get(label)
        if reference.contrasts and control is None:
            continue
        both = [_groups(s.labels, label, control) for s in (cells, half)]
        if min(rows.sum() for pair in both for rows in pair) < FEWEST_CELLS:
            continue
        fake, real = (
            np.asarray(s.values[a].mean(0) - s.values[b].mean(0)).ravel()
            for s, (a, b) in zip((cells, half), both, strict=True)
        )
        yield (label, control), fake, real


def _groups(labels: np.ndarray, label: str, control: str | None) -> tuple[np.ndarray, np.ndarray]:
    return labels == label, labels != label if control is None else labels == control


def _overlap(cells: CellSet, half: CellSet, label: str, control: str | None) -> float:
    fake, real = (_markers(s, label, control) for s in (cells, half))
    return len(fake & real) / max(1, len(real))


def _markers(cells: CellSet, label: str, control: str | None) -> set[str]:
    """The genes with the highest t-statistics, by scanpy."""
    import anndata
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on genes that do not vary
        import scanpy

        inside, outside = _groups(cells.labels, label, control)
        group = np.where(inside, "in", np.where(outside, "out", "other"))
        adata = anndata.AnnData(
            cells.values,
            obs=pd.DataFrame({"group": pd.Categorical(group)}).set_index(np.arange(len(group)).astype(str)),
        )
        scanpy.tl.rank_genes_groups(adata, "group", groups=["in"], reference="out", n_genes=MARKERS, method="t-test")
        return set(adata.uns["rank_genes_groups"]["names"]["in"])
