"""What the user asks to be generated, completed from the cells the model was trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.data.observations import encode_obs, unknown_values
from latdiff_core.errors import DataError, known
from latdiff_core.schema import DataSchema, VectorAttribute

log = logging.getLogger(__name__)

NEAREST = 30
"""Training cells that stand in for a number which none of them has."""
LARGEST_LIBRARY = 10**9
"""Above this, a gene's count might not fit into the int32 of the result."""


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


def requested_conditions(
    n: int | None,
    asked: Mapping[str, Any] | pd.DataFrame | None,
    schema: DataSchema,
    training: TrainingCells,
    generator: torch.Generator,
) -> Annotations:
    """One row of condition and nuisance values per cell to generate.

    ``asked`` is one setting for all ``n`` cells, or a table with one row per cell. Conditions it leaves out are drawn,
    jointly, from training cells that agree with what was asked; nuisance it leaves out stays unknown: the average.

    Raises
    ------
    DataError
        If ``n`` does not fit, an attribute is unknown or a value was never seen.
    """
    every = (*schema.attributes, *schema.nuisance)
    table = _table(n, asked, [a.key for a in every if isinstance(a, VectorAttribute)])
    keys = [a.key for a in schema.attributes]
    if unknown := [str(c) for c in table.columns if c not in schema.keys]:
        raise DataError(f"the model has no condition {unknown[0]!r}; {known(schema.keys, unknown[0])}")
    given = [i for i, key in enumerate(keys) if key in table.columns]
    encoded = encode_obs(table, [schema.attributes[i] for i in given])
    asked_values = dict(zip(given, encoded.values, strict=True))
    rows = draw_matching(asked_values, training, len(table), generator) if len(given) < len(keys) else None
    values = [asked_values[i] if i in asked_values else training.conditions.values[i][rows] for i in range(len(keys))]
    besides = [
        (encode_obs(table, [a]) if a.key in table.columns else unknown_values([a], len(table))).values[0]
        for a in schema.nuisance
    ]
    return Annotations(Conditions(tuple(values), len(table)), Conditions(tuple(besides), len(table)))


def requested_library(library: float | Sequence[float] | np.ndarray, n: int) -> Tensor:
    """The user's library sizes as (n,) float32; one number serves all cells."""
    if np.ndim(library) > 0 and np.shape(library) != (n,):
        raise DataError(f"library has shape {np.shape(library)}; give one size, or one for each of the {n} cells")
    sizes = torch.as_tensor(np.full(n, library, dtype=np.float32))
    if not bool(((sizes > 0) & (sizes <= LARGEST_LIBRARY)).all()):
        raise DataError(f"library sizes must be above 0 and at most {LARGEST_LIBRARY:,}")
    return sizes


def draw_matching(asked: Mapping[int, Tensor], training: TrainingCells, n: int, generator: torch.Generator) -> Tensor:
    """For each of ``n`` cells a training cell with the asked values (by attribute), (n,), drawn uniformly.

    Categories must agree; of the numbers the nearest serve, where no cell has exactly those. Where no training cell
    has the categories, any training cell serves, with a warning.
    """
    everyone = torch.arange(len(training.library))
    if not asked:
        return everyone[torch.randint(len(everyone), (n,), generator=generator)]
    wanted = torch.cat([_comparable(v) for v in asked.values()], -1)
    have = torch.cat([_comparable(training.conditions.values[i]) for i in asked], -1)
    named = torch.cat([torch.full((_comparable(v).shape[1],), v.dtype == torch.int64) for v in asked.values()])
    settings, group = torch.unique(wanted, dim=0, return_inverse=True)
    drawn = torch.empty(n, dtype=torch.int64)
    for i, setting in enumerate(settings):
        pool = everyone[(have == setting)[:, named].all(-1)]
        if len(pool) == 0:
            log.warning("no training cell has the categories asked for; what was not asked is drawn from all cells")
            pool = everyone
        if not named.all():
            distance = (have[pool] - setting)[:, ~named].abs().sum(-1)
            exact = pool[distance == 0]
            pool = exact if len(exact) else pool[distance.argsort(stable=True)[:NEAREST]]
        cells = (group == i).nonzero().squeeze(-1)
        drawn[cells] = pool[torch.randint(len(pool), (len(cells),), generator=generator)]
    return drawn


def _comparable(values: Tensor) -> Tensor:
    """Values as columns (n, numbers), in which missing ones equal each other and are far from all others."""
    return values.view(len(values), -1).double().nan_to_num(nan=1e300)


def _table(n: int | None, asked: Mapping[str, Any] | pd.DataFrame | None, vectors: Sequence[str]) -> pd.DataFrame:
    if isinstance(asked, pd.DataFrame):
        if n is not None and n != len(asked):
            raise DataError(f"{n} cells were asked for, and the table of conditions has {len(asked)} rows")
        if len(asked) == 0:
            raise DataError("the table of conditions has no rows")
        return asked.reset_index(drop=True)
    if n is None:
        raise DataError("give the number of cells (n), or a table of conditions with one row per cell")
    if not isinstance(n, Integral) or n < 1:
        raise DataError(f"the number of cells is {n}; give a whole number of at least 1")
    if not isinstance(asked, Mapping | None):
        raise DataError(f"conditions are {asked!r}; give a mapping such as {{'cell_type': 'B cell'}}, or a DataFrame")
    lists = [key for key, value in (asked or {}).items() if np.ndim(value) > 0 and key not in vectors]
    if lists:
        raise DataError(
            f"a setting holds one value per condition, and {lists[0]!r} has several; give a table (DataFrame) for one "
            "row per cell"
        )
    return pd.DataFrame({key: [value] * n for key, value in (asked or {}).items()}, index=range(n))
