"""The metrics, in the order of the table; each is one small class."""

from latdiff_core.evaluation.metrics.copying import Copying
from latdiff_core.evaluation.metrics.coverage import Coverage
from latdiff_core.evaluation.metrics.distances import Distances, mmd2, wasserstein2
from latdiff_core.evaluation.metrics.effects import ConditionEffects
from latdiff_core.evaluation.metrics.genes import GeneAgreement
from latdiff_core.evaluation.metrics.labels import LabelAccuracy, TrainOnSynthetic
from latdiff_core.evaluation.metrics.library import LibrarySize
from latdiff_core.evaluation.metrics.metric import Metric, Score
from latdiff_core.evaluation.metrics.two_sample import ClassifierTwoSample, NeighbourTwoSample

METRICS: tuple[Metric, ...] = (
    Distances(),
    ClassifierTwoSample(),
    NeighbourTwoSample(),
    Coverage(),
    GeneAgreement(),
    LibrarySize(),
    LabelAccuracy(),
    ConditionEffects(),
    TrainOnSynthetic(),
    Copying(),
)
"""What ``evaluate`` asks unless it is told otherwise, in the order of its table."""

__all__ = ["METRICS", "Metric", "Score", "mmd2", "wasserstein2"]
