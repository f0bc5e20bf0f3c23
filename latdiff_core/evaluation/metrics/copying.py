"""Are the cells new?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from latdiff_core.evaluation.baselines import COPIES
from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.metrics.metric import Metric, Score

CLOSE = 0.01


class Copying(Metric):
    """Distances to the nearest training cell, by those of held-out cells, in the principal components."""

    title = "Copying"
    scores: ClassVar = {
        "nearest_training": Score(
            "distance to training cells",
            "Median distance to the nearest training cell over that of held-out cells: 0 for copies.",
        ),
        "near_copies": Score(
            "near-copies",
            "Share of the cells that are closer to a training cell than all but the closest 1 % of held-out ones.",
        ),
    }

    baselines = COPIES

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        own, real = (reference.neighbours.kneighbors(s.points)[0][:, 0] for s in (cells, half))
        typical, closest = float(np.median(real)), float(np.quantile(real, CLOSE, method="lower"))
        return {
            "nearest_training": float(np.median(own)) / typical if typical > 0 else float("nan"),
            "near_copies": float((own < closest).mean()) if closest > 0 else float("nan"),
        }
