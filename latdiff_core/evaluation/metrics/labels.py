"""Are the cells of the condition they were asked for, and can one learn from them?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from latdiff_core.evaluation.cells import CellSet, Reference, label_classifier
from latdiff_core.evaluation.metrics.metric import Metric, Score


class LabelAccuracy(Metric):
    """Whether a classifier trained on the real training cells gives each cell the condition it was asked for."""

    title = "Conditions"
    scores: ClassVar = {
        "label_accuracy": Score(
            "label accuracy",
            "Share of the cells that a classifier trained on real ones assigns to their condition; above the floor "
            "they are more typical than real cells are.",
        )
    }
    needs_labels = True

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        return {"label_accuracy": float((reference.classifier.predict(cells.points) == cells.labels).mean())}


class TrainOnSynthetic(Metric):
    """Balanced accuracy on real cells of a classifier trained on these (Esteban et al. 2017, arXiv:1706.02633)."""

    title = "Use"
    scores: ClassVar = {
        "train_synthetic": Score(
            "train on these, test on real",
            "Balanced accuracy on held-out real cells of a classifier that learned the conditions from these cells.",
        )
    }
    needs_labels = True

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        if len(np.unique(cells.labels)) < 2:
            return {"train_synthetic": float("nan")}
        predicted = label_classifier(cells).predict(half.points)
        recalls = [(predicted[half.labels == label] == label).mean() for label in np.unique(half.labels)]
        return {"train_synthetic": float(np.mean(recalls))}
