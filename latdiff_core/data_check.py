"""Whether the model that is asked for suits the data that it is to be fitted to."""

from __future__ import annotations

import logging

import pandas as pd

from latdiff_core.data import FirstReading
from latdiff_core.interfaces import DecoderConfig
from latdiff_core.schema import CategoricalAttribute, DataSchema

log = logging.getLogger(__name__)


def warn_of_data(first: FirstReading, decoder: DecoderConfig, table: pd.DataFrame, schema: DataSchema) -> None:
    """Warn of counts that seem to be reads, and of a nuisance whose effects cannot be told from a condition's."""
    if first.of_reads and not decoder.zero_inflated:
        log.warning(
            "counts are zero or far larger than those of molecules (UMIs); if they are sequencing reads, "
            "autoencoder.decoder.kind=zero_inflated_negative_binomial generates them better"
        )
    for nuisance, condition in _nested(table, schema):
        log.warning(
            "no %s has cells of more than one %s, so that their effects cannot be told apart: cells as of the average "
            "%s differ less by %s than real ones; ask for one that has it, or leave it out",
            nuisance, condition, nuisance, condition,
        )  # fmt: skip


def _nested(table: pd.DataFrame, schema: DataSchema) -> list[tuple[str, str]]:
    """Pairs of a nuisance and a condition of which every value of the nuisance is seen with one condition alone.

    Both are categorical and have several values, as donors of cases and of controls.
    """
    kinds = (schema.nuisance, schema.attributes)
    of_nuisance, of_conditions = (
        [a.key for a in kind if isinstance(a, CategoricalAttribute) and len(a.categories) > 1] for kind in kinds
    )
    return [
        (nuisance, condition)
        for nuisance in of_nuisance
        for condition in of_conditions
        if table.groupby(nuisance, observed=True)[condition].nunique().max() == 1
    ]
