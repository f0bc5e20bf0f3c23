"""Attribute values between annotation tables and tensors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from latdiff_core.conditions import Conditions
from latdiff_core.errors import DataError, known
from latdiff_core.schema import Attribute, CategoricalAttribute, VectorAttribute

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)

WHOLE = re.compile(r"^(-?\d+)\.0+$")
"""A whole number as text that has a decimal point."""
ROUNDING = 1e-6
"""Of a number's size: what it may differ by and still be the same."""


def annotation_table(adata: AnnData, keys: Iterable[str]) -> pd.DataFrame:
    """One table of what is said of the cells: the columns of ``obs``, and of ``obsm`` the arrays that ``keys`` name.

    A name that both have is that of the ``obs`` column.
    """
    arrays = {key: adata.obsm[key] for key in keys if key in adata.obsm and key not in adata.obs}
    dense = {key: value.toarray() if sparse.issparse(value) else np.asarray(value) for key, value in arrays.items()}
    vectors = [pd.Series(list(rows), adata.obs.index, dtype=object, name=key) for key, rows in dense.items()]
    return pd.concat([adata.obs, *vectors], axis=1)


def encode_obs(obs: pd.DataFrame, attributes: Sequence[Attribute], allow_unseen: bool = False) -> Conditions:
    """The attribute values of cells, one row of the table each; a vector is an array in the table's cell.

    With ``allow_unseen`` a category that no training cell had is as a missing one, with a warning.

    Raises
    ------
    DataError
        If a column is missing, a value is unseen or not a number, or a value is missing that must be given.
    """
    return Conditions(tuple(_encode(attribute_column(obs, a.key), a, allow_unseen) for a in attributes), len(obs))


def unknown_values(attributes: Sequence[Attribute], cells: int) -> Conditions:
    """The attribute values of cells of which none is known."""
    values: list[Tensor] = []
    for attribute in attributes:
        if isinstance(attribute, CategoricalAttribute):
            values.append(torch.full((cells,), -1))
        else:
            shape = (cells, len(attribute.mean)) if isinstance(attribute, VectorAttribute) else (cells,)
            values.append(torch.full(shape, torch.nan))
    return Conditions(tuple(values), cells)


def decode_obs(conditions: Conditions, attributes: Sequence[Attribute], first: int = 0) -> pd.DataFrame:
    """``obs`` columns for attribute values: categoricals with every known category, numbers, NaN where missing.

    Cells are named by their numbers, which start at ``first``.
    """
    columns: dict[str, object] = {}
    for attribute, values in zip(attributes, conditions.values, strict=True):
        array = values.cpu().numpy()
        if isinstance(attribute, CategoricalAttribute):
            columns[attribute.key] = pd.Categorical.from_codes(array, categories=list(attribute.categories))
        elif not isinstance(attribute, VectorAttribute):
            columns[attribute.key] = array.astype(str).astype(np.float64)  # 0.1, not what float32 makes of it
    return pd.DataFrame(columns, index=[f"cell_{i}" for i in range(first, first + len(conditions))])


def decode_obsm(conditions: Conditions, attributes: Sequence[Attribute]) -> dict[str, np.ndarray]:
    """``obsm`` arrays for the vectors among the attribute values, NaN where missing."""
    pairs = zip(attributes, conditions.values, strict=True)
    return {a.key: values.cpu().numpy() for a, values in pairs if isinstance(a, VectorAttribute)}


def attribute_column(obs: pd.DataFrame, key: str) -> pd.Series:
    """One column of the annotations; a missing one is a DataError that lists the known ones."""
    if key not in obs:
        raise DataError(f"obs and obsm have no {key!r}; {known(map(str, obs.columns), key)}")
    if list(obs.columns).count(key) > 1:
        raise DataError(f"obs has more than one column {key!r}; give each column its own name")
    return obs[key]


def vectors(column: pd.Series, key: str) -> np.ndarray:
    """A column of equally long arrays of numbers, or of text such as 1,0,0, as (cells, numbers) float64.

    Anything else is a DataError.
    """
    hint = f"{key!r} is a vector condition and needs, for every cell, an array of numbers"
    try:
        listed = [row.split(",") if isinstance(row, str) and "," in row else row for row in column]
        rows = [np.asarray(row, dtype=np.float64) for row in listed]
    except (ValueError, TypeError) as error:
        raise DataError(f"{hint}: {error}") from None
    if any(row.ndim != 1 or len(row) == 0 for row in rows):
        raise DataError(f"{hint}; put it into obsm, not into a column of obs")
    if len(lengths := {len(row) for row in rows}) > 1:
        raise DataError(f"{hint}, all of one length; these have {', '.join(map(str, sorted(lengths)[:5]))}")
    array = np.stack(rows)
    _refuse_huge(array, key)
    return array


def is_measured(column: pd.Series) -> bool:
    """Whether a column holds too many fractions for doses, say: something measured of each cell, and no categories."""
    if column.dtype.kind != "f":
        return False
    numbers = column[np.isfinite(column.to_numpy(np.float64, na_value=np.nan))]
    most = max(20, min(len(column) / 10, 1000))
    return bool((numbers % 1 != 0).any()) and numbers.nunique() > most


def as_text(values: pd.Series) -> np.ndarray:
    """Categories as text, none of which may be missing; a whole number is alike however it is stored, 1 for 1.0."""
    try:
        codes, found = pd.factorize(values)
    except TypeError:
        raise DataError(f"{values.name!r} holds lists or arrays, which are no categories") from None
    unique = np.asarray(found)  # as an index it would make 0.10000000149 of a float32 0.1
    names = [str(int(x)) if isinstance(x, float | np.floating) and x.is_integer() else str(x) for x in unique]
    texts: np.ndarray = np.array(names, dtype=object)[codes]
    return texts


def numeric(values: pd.Series, key: str) -> np.ndarray:
    """A column as float64, NaN where missing; text that is no number, or infinity, is a DataError."""
    try:
        numbers: np.ndarray = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise DataError(f"{key!r} is a continuous condition and needs numbers: {error}") from None
    _refuse_huge(numbers, key)
    return numbers


def spread(values: np.ndarray, constant: float = 1.0) -> np.ndarray:
    """Standard deviation over the cells, in float64; ``constant`` where all are equal but for rounding, or masked."""
    mean, std = (np.ma.filled(of(0, dtype=np.float64), 0.0) for of in (values.mean, values.std))
    varies: np.ndarray = np.where(std > ROUNDING * np.abs(mean), std, constant)
    return varies


def _codes_of(names: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Numbers of the categories, -1 where there is none; 1.0 and 1 are one where a file or a user wrote the other."""
    codes: np.ndarray = pd.Index(categories).get_indexer(names)
    if (lacking := codes < 0).any():
        shorter = {re.sub(WHOLE, r"\1", category): code for code, category in enumerate(categories)}
        codes[lacking] = [shorter.get(re.sub(WHOLE, r"\1", name), -1) for name in names[lacking]]
    return codes


def _refuse_huge(numbers: np.ndarray, key: str) -> None:
    if (np.abs(numbers) > np.finfo(np.float32).max).any():
        raise DataError(f"{key!r} holds infinite or huge values; a condition must be finite")


def refuse_missing(missing: np.ndarray, key: str, policy: str, names: pd.Index) -> None:
    """Raise DataError for cells without a value, unless the condition allows them."""
    if missing.any() and policy == "refuse":
        examples = ", ".join(map(str, names[missing][:5]))
        raise DataError(
            f"{int(missing.sum())} cells have no value of {key!r}, e.g. {examples}; remove them, or allow missing "
            "values in the condition before a model is fitted (missing: allow; on the command line --set "
            "data.conditions.0.missing=allow for the first --condition, data.nuisance.0 for the first --nuisance)"
        )


def _encode(values: pd.Series, attribute: Attribute, allow_unseen: bool) -> Tensor:
    if isinstance(attribute, VectorAttribute):
        rows = vectors(values, attribute.key)
        if rows.shape[1] != len(attribute.mean):
            raise DataError(
                f"{attribute.key!r} has {rows.shape[1]} numbers per cell; the model needs {len(attribute.mean)}"
            )
        refuse_missing(np.isnan(rows).any(1), attribute.key, attribute.missing, values.index)
        return torch.as_tensor(rows, dtype=torch.float32)
    if not isinstance(attribute, CategoricalAttribute):
        numbers = numeric(values, attribute.key)
        refuse_missing(np.isnan(numbers), attribute.key, attribute.missing, values.index)
        return torch.tensor(numbers, dtype=torch.float32)  # a copy: pandas may lend what must not be written to
    missing = values.isna().to_numpy()
    refuse_missing(missing, attribute.key, attribute.missing, values.index)
    names = as_text(values[~missing])
    codes = np.full(len(values), -1)
    codes[~missing] = _codes_of(names, attribute.categories)
    unseen = np.unique(names[codes[~missing] < 0])
    if len(unseen):
        said = ", ".join(map(repr, unseen[:5]))
        if not allow_unseen:
            raise DataError(f"{attribute.key!r} has no value {said}; {known(attribute.categories, str(unseen[0]))}")
        log.warning("no training cell had %s of %r: such cells are taken as average ones", said, attribute.key)
    return torch.as_tensor(codes, dtype=torch.int64)
