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
from latdiff_core.data.training_cells import MatchingCells, TrainingCells
from latdiff_core.errors import DataError, known
from latdiff_core.schema import Attribute, ContinuousAttribute, DataSchema, VectorAttribute

log = logging.getLogger(__name__)

LARGEST_LIBRARY = 10**9
"""Above this, a gene's count might not fit into the int32 of the result."""


@dataclass(frozen=True)
class Request:
    """What is asked of ``n`` cells: each value is one row that holds for all of them, or ``n`` rows.

    Attributes
    ----------
    n
        Number of cells.
    conditions
        Encoded values, by the place of their attribute among all conditions; what is not in it is drawn.
    nuisance
        Encoded values of each nuisance attribute; unknown where not asked for.
    library
        Library sizes, float32; generated when None.
    training
        Cells that what is not asked for is drawn from.
    matching
        Draws those of them that agree with ``conditions``.
    """

    n: int
    conditions: Mapping[int, Tensor]
    nuisance: tuple[Tensor, ...]
    library: Tensor | None
    training: TrainingCells
    matching: MatchingCells

    def annotations(self, cells: Tensor, generator: torch.Generator) -> Annotations:
        """Condition and nuisance values of some cells, given by their numbers (batch,); beyond ``n``, of the last one.

        Conditions that are not asked for are drawn, jointly, from training cells that agree with what is.
        """
        values = {i: _rows(v, cells) for i, v in self.conditions.items()}
        everything = self.training.conditions.values
        if len(values) < len(everything):
            drawn = self.matching.draw(list(values.values()), len(cells), generator)
            values |= {i: v[drawn] for i, v in enumerate(everything) if i not in values}
        nuisance = tuple(_rows(v, cells) for v in self.nuisance)
        conditions = tuple(values[i] for i in range(len(everything)))
        return Annotations(Conditions(conditions, len(cells)), Conditions(nuisance, len(cells)))

    def library_sizes(self, cells: Tensor) -> Tensor | None:
        """Library sizes of some cells, (batch,), or None where they are to be generated."""
        return None if self.library is None else _rows(self.library, cells)


def read_request(
    n: int | None,
    asked: Mapping[str, Any] | pd.DataFrame | None,
    library: float | Sequence[float] | np.ndarray | None,
    schema: DataSchema,
    training: TrainingCells,
) -> Request:
    """What the user asks for, checked and encoded.

    ``asked`` is one setting for all ``n`` cells, or a table with one row per cell. Conditions it leaves out will be
    drawn; nuisance it leaves out stays unknown: the average. So does, with a warning, what a table says of a nuisance
    that no training cell had.

    Raises
    ------
    DataError
        If ``n`` does not fit, an attribute is unknown, a value was never seen, or a library size is impossible.
    """
    every = (*schema.attributes, *schema.nuisance)
    n, table = _table(n, asked, [a.key for a in every if isinstance(a, VectorAttribute)])
    if unknown := [str(c) for c in table.columns if c not in schema.keys]:
        raise DataError(f"the model has no condition {unknown[0]!r}; {known(schema.keys, unknown[0])}")
    for attribute in () if isinstance(asked, pd.DataFrame) else every:
        key = attribute.key
        if attribute.missing == "refuse" and key in table and np.ndim(table[key][0]) == 0 and pd.isna(table[key][0]):
            otherwise = "drawn from training cells" if attribute in schema.attributes else "that of the average cell"
            raise DataError(f"{key!r} is asked for without a value; leave it out, and it is {otherwise}")
    given = [i for i, a in enumerate(schema.attributes) if a.key in table.columns]
    encoded = encode_obs(table, [schema.attributes[i] for i in given])
    for i, values in zip(given, encoded.values, strict=True):
        _warn_of_extremes(schema.attributes[i], values, training.conditions.values[i])
    of_rows = isinstance(asked, pd.DataFrame)  # of a new donor, perhaps; a single setting is more likely misspelt
    nuisance = [
        (encode_obs(table, [a], of_rows) if a.key in table.columns else unknown_values([a], 1)).values[0]
        for a in schema.nuisance
    ]
    return Request(
        n=n,
        conditions=dict(zip(given, encoded.values, strict=True)),
        nuisance=tuple(nuisance),
        library=None if library is None else _library(library, n),
        training=training,
        matching=MatchingCells(training, given),
    )


def _warn_of_extremes(attribute: Attribute, asked: Tensor, training: Tensor) -> None:
    """Warn of numbers outside those of the training cells."""
    if not isinstance(attribute, ContinuousAttribute) or training.isnan().all():
        return
    known_values = training[~training.isnan()].double()
    low, high = float(known_values.min()), float(known_values.max())
    rounded_low, rounded_high = float(f"{low:g}"), float(f"{high:g}")  # as a user reads them off the message
    extreme = asked[(asked.double() < min(low, rounded_low)) | (asked.double() > max(high, rounded_high))]
    if len(extreme):
        log.warning(
            "%s of %g is outside that of the training cells, %g to %g: the model has to guess what it does there",
            attribute.key, extreme[0], low, high,
        )  # fmt: skip


def _rows(values: Tensor, cells: Tensor) -> Tensor:
    return values[cells.clamp(max=len(values) - 1)]


def _library(library: float | Sequence[float] | np.ndarray, n: int) -> Tensor:
    if np.ndim(library) > 0 and np.shape(library) != (n,):
        raise DataError(f"library has shape {np.shape(library)}; give one size, or one for each of the {n} cells")
    sizes = torch.tensor(np.atleast_1d(np.asarray(library, dtype=np.float32)))
    if not bool(((sizes > 0) & (sizes <= LARGEST_LIBRARY)).all()):
        wrong = sizes[~((sizes > 0) & (sizes <= LARGEST_LIBRARY))][0]
        raise DataError(f"a library size is {wrong:g}; they must be above 0 and at most {LARGEST_LIBRARY:,}")
    return sizes


def _table(
    n: int | None, asked: Mapping[str, Any] | pd.DataFrame | None, vectors: Sequence[str]
) -> tuple[int, pd.DataFrame]:
    """The number of cells, and what is asked as a table of that many rows, or of one that holds for all."""
    if isinstance(asked, pd.DataFrame):
        if n is not None and n != len(asked):
            raise DataError(f"{n} cells were asked for, and the table of conditions has {len(asked)} rows")
        if len(asked) == 0:
            raise DataError("the table of conditions has no rows")
        return len(asked), asked.reset_index(drop=True)
    if hasattr(asked, "obs"):
        raise DataError("an AnnData was given as conditions; give columns of its obs, such as adata.obs[['cell_type']]")
    if n is None:
        raise DataError("give the number of cells (n), or a table of conditions with one row per cell")
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise DataError(f"the number of cells is {n!r}; give a whole number of at least 1")
    if not isinstance(asked, Mapping | None):
        raise DataError(f"conditions are {asked!r}; give a mapping such as {{'cell_type': 'B cell'}}, or a DataFrame")
    lists = [key for key, value in (asked or {}).items() if np.ndim(value) > 0 and key not in vectors]
    if lists:
        raise DataError(
            f"a setting holds one value per condition, and {lists[0]!r} has several; give a table (DataFrame) for one "
            "row per cell"
        )
    return int(n), pd.DataFrame({key: [value] for key, value in (asked or {}).items()}, index=range(1))
