"""What a condition does to expression: effects and marker genes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch

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
        rows = [_compare(cells, half, *pair) for pair in _comparisons(half, reference)]
        means = np.ma.masked_invalid(rows).mean(0).filled(np.nan) if rows else np.full(3, np.nan)
        return dict(zip(self.scores, map(float, means), strict=True))


def _comparisons(half: CellSet, reference: Reference) -> Iterator[tuple[str, str | None]]:
    """Conditions and their controls of which the real half has enough cells."""
    for label in reference.labels:
        control = reference.contrasts.get(label)
        if reference.contrasts and control is None:
            continue
        if min(rows.sum() for rows in _groups(half.labels, label, control)) >= FEWEST_CELLS:
            yield label, control


def _compare(cells: CellSet, half: CellSet, label: str, control: str | None) -> tuple[float, float, float]:
    """Correlation and relative error of the effect, and overlap of the markers; cells that lack a side show none."""
    inside, outside = _groups(cells.labels, label, control)
    if not (inside.any() and outside.any()):
        return 0.0, 1.0, 0.0
    fake, real = _effect(cells, label, control), _effect(half, label, control)
    error = float(np.linalg.norm(fake - real) / np.linalg.norm(real))
    return correlation(fake, real), error, _overlap(cells, half, label, control)


def _effect(cells: CellSet, label: str, control: str | None) -> np.ndarray:
    inside, outside = _groups(cells.labels, label, control)
    return np.asarray(cells.values[inside].mean(0) - cells.values[outside].mean(0)).ravel()


def _groups(labels: np.ndarray, label: str, control: str | None) -> tuple[np.ndarray, np.ndarray]:
    return labels == label, labels != label if control is None else labels == control


def _overlap(cells: CellSet, half: CellSet, label: str, control: str | None) -> float:
    """Share of the markers in common, none where nothing is expressed.

    NaN where there are too few genes to choose from, or cells to test.
    """
    if cells.values.shape[1] < 2 * MARKERS or min(r.sum() for r in _groups(cells.labels, label, control)) < 2:
        return float("nan")
    if cells.values.count_nonzero() == 0:
        return 0.0  # scanpy would name any genes, and take zeros for raw counts
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
        threads = torch.get_num_threads()
        scanpy.tl.rank_genes_groups(adata, "group", groups=["in"], reference="out", n_genes=MARKERS, method="t-test")
        torch.set_num_threads(threads)  # which numba, below scanpy, raises to all cores
        return set(adata.uns["rank_genes_groups"]["names"]["in"])
