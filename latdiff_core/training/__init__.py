"""Training of both stages on Lightning: the only part of latdiff that knows Lightning."""

from latdiff_core.training.batches import CellData
from latdiff_core.training.fit import FitResult, fit_model
from latdiff_core.training.resume import open_checkpoints

__all__ = ["CellData", "FitResult", "fit_model", "open_checkpoints"]
