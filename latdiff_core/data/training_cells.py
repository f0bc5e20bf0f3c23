"""What a model keeps of the cells it was trained on, and drawing from those that agree with a request."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from latdiff_core.conditions import Conditions
from latdiff_core.data.observations import ROUNDING, spread

log = logging.getLogger(__name__)

NEAREST = 30
"""Training cells that stand in for a number which none of them has."""
REMEMBERED = 1024
"""Settings whose training cells are remembered."""
MISSING = 1e38
"""A missing number, which equals itself alone."""


@dataclass(frozen=True)
class TrainingCells:
    """Condition values and library sizes of the training cells: where what was not asked for is drawn from.

    Attributes
    ----------
    conditions
        Values of every attribute.
    library
        Library sizes, (cells,), float32.
    """

    conditions: Conditions
    library: Tensor

    def to_tensors(self) -> dict[str, Tensor]:
        """A flat form for storage."""
        values = {f"condition.{i}": v for i, v in enumerate(self.conditions.values)}
        return {"library": self.library, **values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TrainingCells:
        """The inverse of ``to_tensors``."""
        library = tensors["library"]
        values = tuple(tensors[f"condition.{i}"] for i in range(len(tensors) - 1))
        return cls(Conditions(values, len(library)), library)


class MatchingCells:
    """Draws, for cells with asked values of some attributes, training cells with those values, uniformly.

    Categories must agree; where no training cell has them, any serves, with a warning, given once. Where no cell has
    exactly the numbers, those serve that are as near as the nearest, first those that lack the same ones, each in its
    standard deviations: the cells of one dose, which must not be mixed with those of another. Where that is a single
    cell, numbers are measured rather than chosen, and the ``NEAREST`` serve, with all that are as near as the last.

    Parameters
    ----------
    training
        The cells to draw from.
    attributes
        Places of the attributes that are asked for among all conditions.
    """

    def __init__(self, training: TrainingCells, attributes: Sequence[int]) -> None:
        self._values = [training.conditions.values[i] for i in attributes]
        widths = [_columns(v).shape[1] for v in self._values]
        self._named = np.repeat([v.dtype == torch.int64 for v in self._values], widths).astype(bool)
        self._everyone = np.arange(len(training.library))
        self._serving = lru_cache(REMEMBERED)(self._find)
        self._warned = False

    def draw(self, asked: Sequence[Tensor], n: int, generator: torch.Generator) -> Tensor:
        """A training cell for each of ``n`` cells, (n,) int64, from their values of the attributes, each (n, ...)."""
        shares = torch.rand(n, dtype=torch.float64, generator=generator).numpy()
        drawn = np.empty(n, dtype=np.int64)
        for cell, setting in enumerate(_side_by_side(asked, n)):
            serving = self._serving(setting.tobytes())
            drawn[cell] = serving[int(shares[cell] * len(serving))]
        return torch.from_numpy(drawn)

    @cached_property
    def _have(self) -> np.ndarray:
        return _side_by_side(self._values, len(self._everyone))

    @cached_property
    def _spread(self) -> np.ndarray:
        """Of each number over the cells that have it; one that is the same in all tells none from another."""
        return spread(np.ma.masked_equal(self._have[:, ~self._named], np.float32(MISSING)), constant=np.inf)

    def _find(self, setting: bytes) -> np.ndarray:
        wanted = np.frombuffer(setting, np.float32)
        serving: np.ndarray = self._everyone[(self._have[:, self._named] == wanted[self._named]).all(1)]
        if len(serving) == 0:
            self._warn()
            serving = self._everyone
        if self._named.all():
            return serving
        have, want = self._have[serving][:, ~self._named], wanted[~self._named]
        unlike = (have == np.float32(MISSING)) != (want == np.float32(MISSING))
        lacking = unlike.sum(1)
        distance = np.where(unlike, 0, np.abs(have - want) / self._spread).sum(1)
        chosen = (lacking == 0) & (distance == 0)
        if not chosen.any():
            chosen = self._up_to(1, distance, lacking)
            if chosen.sum() == 1:
                chosen = self._up_to(NEAREST, distance, lacking)
        found: np.ndarray = serving[chosen]
        return found

    @staticmethod
    def _up_to(n: int, distance: np.ndarray, lacking: np.ndarray) -> np.ndarray:
        """Which cells are at least as near as the n-th."""
        last = np.lexsort((distance, lacking))[:n][-1]
        as_near = distance <= distance[last] + ROUNDING * (1 + distance[last])
        nearest: np.ndarray = (lacking < lacking[last]) | ((lacking == lacking[last]) & as_near)
        return nearest

    def _warn(self) -> None:
        if not self._warned:
            log.warning("no training cell has the categories asked for; what was not asked is drawn from all cells")
        self._warned = True


def _side_by_side(values: Sequence[Tensor], cells: int) -> np.ndarray:
    """Values as (cells, numbers) float32, in which missing ones equal each other."""
    return torch.cat([torch.zeros(cells, 0), *map(_columns, values)], -1).numpy()


def _columns(values: Tensor) -> Tensor:
    return values.view(len(values), -1).float().nan_to_num(nan=MISSING)
