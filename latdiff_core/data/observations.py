"""Condition values between ``obs`` columns and tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latdiff_core.conditions import Conditions
from latdiff_core.errors import DataError, known
from latdiff_core.schema import Attribute, CategoricalAttribute


def encode_obs(obs: pd.DataFrame, attributes: Sequence[Attribute]) -> Conditions:
    """The condition values of cells, one row of ``obs`` each.

    Raises
    ------
    DataError
        If a column is missing, a value is unknown or not a number, or a value is missing that must be given.
    """
    return Conditions(tuple(_encode(condition_column(obs, a.key), a) for a in attributes), len(obs))


def decode_obs(conditions: Conditions, attributes: Sequence[Attribute]) -> pd.DataFrame:
    """``obs`` columns for condition values: categoricals with every known category, numbers, NaN where missing."""
    columns: dict[str, object] = {}
    for attribute, values in zip(attributes, conditions.values, strict=True):
        array = values.cpu().numpy()
        if isinstance(attribute, CategoricalAttribute):
            columns[attribute.key] = pd.Categorical.from_codes(array, categories=list(attribute.categories))
        else:
            columns[attribute.key] = array.astype(np.float64)
    return pd.DataFrame(columns, index=[f"cell_{i}" for i in range(len(conditions))])


def condition_column(obs: pd.DataFrame, key: str) -> pd.Series:
    """One column of ``obs``; a missing one is a DataError that lists the known ones."""
    if key not in obs:
        raise DataError(f"obs has no column {key!r}; {known(map(str, obs.columns), key)}")
    if list(obs.columns).count(key) > 1:
        raise DataError(f"obs has more than one column {key!r}; give each column its own name")
    return obs[key]


def numeric(values: pd.Series, key: str) -> np.ndarray:
    """A column as float64, NaN where missing; text that is no number, or infinity, is a DataError."""
    try:
        numbers: np.ndarray = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise DataError(f"{key!r} is a continuous condition and needs numbers: {error}") from None
    if (np.abs(numbers) > np.finfo(np.float32).max).any():
        raise DataError(f"{key!r} holds infinite or huge values; a continuous condition must be finite")
    return numbers


def refuse_missing(missing: np.ndarray, key: str, policy: str, names: pd.Index) -> None:
    """Raise DataError for cells without a value, unless the condition allows them."""
    if missing.any() and policy == "refuse":
        examples = ", ".join(map(str, names[missing][:5]))
        raise DataError(
            f"{int(missing.sum())} cells have no value of {key!r}, e.g. {examples}; remove them, or allow missing "
            "values in the condition (missing: allow)"
        )


def _encode(values: pd.Series, attribute: Attribute) -> Tensor:
    if not isinstance(attribute, CategoricalAttribute):
        numbers = numeric(values, attribute.key)
        refuse_missing(np.isnan(numbers), attribute.key, attribute.missing, values.index)
        return torch.as_tensor(numbers, dtype=torch.float32)
    missing = values.isna().to_numpy()
    refuse_missing(missing, attribute.key, attribute.missing, values.index)
    names = values.astype(str).to_numpy()
    codes = pd.Index(attribute.categories).get_indexer(names)
    unknown = np.unique(names[(codes < 0) & ~missing])
    if len(unknown):
        raise DataError(
            f"{attribute.key!r} has no value {', '.join(map(repr, unknown[:5]))}; "
            f"{known(attribute.categories, str(unknown[0]))}"
        )
    return torch.as_tensor(np.where(missing, -1, codes), dtype=torch.int64)
