"""How close generated cells are to real ones, every figure beside what real cells score among themselves."""

from latdiff_core.evaluation.comparison import compare
from latdiff_core.evaluation.distances import mmd2, wasserstein2
from latdiff_core.evaluation.figures import check_figure, overview_figure
from latdiff_core.evaluation.space import ExpressionSpace

__all__ = ["ExpressionSpace", "check_figure", "compare", "mmd2", "overview_figure", "wasserstein2"]
