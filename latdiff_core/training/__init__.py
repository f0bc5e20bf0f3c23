"""Training of both stages on Lightning: the only part of latdiff that knows Lightning."""

from latdiff_core.training.batches import CellData
from latdiff_core.training.checkpoints import open_checkpoints
from latdiff_core.training.fit import FitResult, fit_model
from latdiff_core.training.stage import check_strategy

__all__ = ["CellData", "FitResult", "check_strategy", "fit_model", "open_checkpoints"]
