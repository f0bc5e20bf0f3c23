"""The schema of a data set: what a model will know about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from latdiff_core.configs import ConditionConfig, ContinuousConfig, DataConfig, VectorConfig
from latdiff_core.data.observations import (
    as_text,
    attribute_column,
    is_measured,
    numeric,
    refuse_missing,
    spread,
    vectors,
)
from latdiff_core.errors import DataError
from latdiff_core.schema import Attribute, CategoricalAttribute, ContinuousAttribute, DataSchema, VectorAttribute


def build_schema(genes: Sequence[str], table: pd.DataFrame, config: DataConfig) -> DataSchema:
    """Genes, and the values of conditions and nuisance in the annotations of the training cells."""
    return DataSchema(
        genes=tuple(map(str, genes)),
        attributes=tuple(_attribute(table, condition) for condition in config.conditions),
        nuisance=tuple(_attribute(table, nuisance) for nuisance in config.nuisance),
        cells=len(table),
    )


def _attribute(table: pd.DataFrame, config: ConditionConfig) -> Attribute:
    column, key, missing = attribute_column(table, config.key), config.key, config.missing
    if isinstance(config, VectorConfig):
        rows = vectors(column, key)
        given = rows[_given(np.isnan(rows).any(1), config, table.index)]
        return VectorAttribute(key=key, mean=tuple(given.mean(0)), std=tuple(spread(given)), missing=missing)
    if isinstance(config, ContinuousConfig):
        numbers = numeric(column, key)
        given = numbers[_given(np.isnan(numbers), config, table.index)]
        return ContinuousAttribute(key=key, mean=float(given.mean()), std=float(spread(given)), missing=missing)
    if any(np.ndim(value) > 0 for value in column.iloc[:1]):
        raise DataError(f"{key!r} holds an array for every cell; take it as a vector (kind: vector, or {key}:vector)")
    if is_measured(column):
        raise DataError(
            f"{key!r} holds {column.nunique()} different fractions, which are no categories; take it as a number "
            f"(kind: continuous, or {key}:continuous), or store it as text"
        )
    names = as_text(column[_given(column.isna().to_numpy(), config, table.index)])
    categories, cells = np.unique(names.astype(str), return_counts=True)
    shares = tuple(cells / cells.sum())
    return CategoricalAttribute(key=key, categories=tuple(categories), shares=shares, missing=missing)


def _given(missing: np.ndarray, config: ConditionConfig, names: pd.Index) -> np.ndarray:
    """Which cells have a value; refuses missing ones where they are not allowed, and a column without any."""
    refuse_missing(missing, config.key, config.missing, names)
    if missing.all():
        raise DataError(f"{config.key!r} has no values at all")
    return ~missing
