"""Can the cells be told from real ones?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.metrics.metric import Metric, Score

FOLDS, TREES = 5, 100


class ClassifierTwoSample(Metric):
    """A random forest's cross-validated AUC between the two sets (Lopez-Paz & Oquab 2017, arXiv:1610.06545)."""

    title = "Indistinguishability"
    scores: ClassVar = {
        "auc_genes": Score(
            "classifier AUC, genes",
            "How well a random forest tells the cells from real ones by (up to) 1,000 most variable genes; 0.5 is "
            "chance.",
        ),
        "auc_pcs": Score(
            "classifier AUC, PCs", "The same by principal components: whether programs of many genes vary as they do."
        ),
    }

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        genes = reference.variable_genes
        return {
            "auc_genes": two_sample_auc(
                cells.values[:, genes].toarray(), half.values[:, genes].toarray(), reference.seed
            ),
            "auc_pcs": two_sample_auc(cells.points, half.points, reference.seed),
        }


class NeighbourTwoSample(Metric):
    """Leave-one-out accuracy of the nearest neighbour in the pooled sample (Xu et al. 2018, arXiv:1806.07755)."""

    title = "Indistinguishability"
    scores: ClassVar = {
        "nn_accuracy": Score(
            "nearest-neighbour accuracy",
            "How often a cell's nearest neighbour is of its own kind, real or not; 0.5 is chance, near 0 are copies.",
        )
    }

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        return {"nn_accuracy": neighbour_accuracy(cells.points, half.points)}


def two_sample_auc(a: np.ndarray, b: np.ndarray, seed: int) -> float:
    """Mean AUC over five folds of a random forest that separates the rows of ``a`` from those of ``b``.

    Folds are fitted side by side on as many threads as torch may use; the AUC does not depend on their number.
    """
    from joblib import parallel_config
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    rows, sides = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    with parallel_config(backend="threading", n_jobs=min(FOLDS, torch.get_num_threads())):
        return float(cross_val_score(forest, rows, sides, cv=folds, scoring="roc_auc").mean())


def neighbour_accuracy(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the rows of ``a`` and ``b`` whose nearest other row is of the same set."""
    from sklearn.neighbors import NearestNeighbors

    rows, sides = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    nearest = NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(return_distance=False)[:, 0]  # never the row itself
    return float((sides[nearest] == sides).mean())
