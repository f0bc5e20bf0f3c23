"""How close generated cells are to real ones, every figure beside what real cells score among themselves."""

from latdiff_core.evaluation.evaluation import evaluate
from latdiff_core.evaluation.figures import overview_figure
from latdiff_core.evaluation.metrics import METRICS, mmd2, wasserstein2
from latdiff_core.evaluation.prepare import FEWEST_HELD_OUT
from latdiff_core.evaluation.report import write_report
from latdiff_core.evaluation.result import SCORES, Evaluation
from latdiff_core.evaluation.space import ExpressionSpace

__all__ = [
    "FEWEST_HELD_OUT",
    "METRICS",
    "SCORES",
    "Evaluation",
    "ExpressionSpace",
    "evaluate",
    "mmd2",
    "overview_figure",
    "wasserstein2",
    "write_report",
]
