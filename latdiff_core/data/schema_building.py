"""The schema of a data set: what a model will know about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latdiff_core.configs import CategoricalConfig, ConditionConfig, DataConfig
from latdiff_core.data.observations import condition_column, numeric, refuse_missing
from latdiff_core.errors import DataError
from latdiff_core.schema import Attribute, CategoricalAttribute, ContinuousAttribute, DataSchema

if TYPE_CHECKING:
    from anndata import AnnData


def build_schema(adata: AnnData, config: DataConfig) -> DataSchema:
    """Genes and condition values of the training data."""
    return DataSchema(
        genes=tuple(map(str, adata.var_names)),
        attributes=tuple(_attribute(adata.obs, condition) for condition in config.conditions),
        cells=adata.n_obs,
    )


def _attribute(obs: pd.DataFrame, config: ConditionConfig) -> Attribute:
    values = condition_column(obs, config.key)
    numbers = None if isinstance(config, CategoricalConfig) else numeric(values, config.key)
    missing = values.isna().to_numpy() if numbers is None else np.isnan(numbers)
    refuse_missing(missing, config.key, config.missing, obs.index)
    if missing.all():
        raise DataError(f"the column {config.key!r} has no values at all")
    if numbers is None:
        categories = tuple(sorted(values[~missing].astype(str).unique()))
        return CategoricalAttribute(key=config.key, categories=categories, missing=config.missing)
    given = numbers[~missing]
    return ContinuousAttribute(
        key=config.key, mean=float(given.mean()), std=float(given.std()) or 1.0, missing=config.missing
    )
