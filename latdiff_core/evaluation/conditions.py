"""The conditions that cells are compared by: labels, their shares, and what each is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from latdiff_core.data.observations import WHOLE, as_text, attribute_column, is_measured
from latdiff_core.errors import DataError, known

if TYPE_CHECKING:
    from anndata import AnnData

SEPARATOR = " | "
NO_VALUE = "no value"
"""The label of cells that have none, which a model may have learned as such."""
SHARES_DIFFER = 0.2
"""Total variation between the shares of conditions, beyond what chance makes of it, above which overall scores are
mostly about them."""
MOST_NAMED = 5
FEWEST_OF_EFFECT = 5
"""Cells of a condition, and of what it is compared with, to be expected in half of the held-out cells."""


def compared_columns(
    conditions: Sequence[str] | str | None, cells: Mapping[str, AnnData]
) -> tuple[list[str], list[str]]:
    """The columns to compare by, each once, and notes on those that were left out.

    By default they are the categorical conditions that the generated cells say they were generated for.
    """
    if conditions is not None:
        return list(dict.fromkeys([conditions] if isinstance(conditions, str) else conditions)), []
    keys, notes = [], []
    for condition in _generated_for(cells["generated"]):
        key = str(condition.get("key"))
        lacking = [what for what, adata in cells.items() if key not in adata.obs]
        if condition.get("kind") != "categorical":
            notes.append(f"Cells were generated for {key} too, which is not a category and is not compared.")
        elif lacking:
            notes.append(f"Cells were generated for {key}, which the {' and the '.join(lacking)} cells do not have.")
        else:
            keys.append(key)
    return keys, notes


def condition_table(adata: AnnData, keys: Sequence[str]) -> pd.DataFrame:
    """The compared columns as text, whole numbers alike whatever they are stored as.

    Raises
    ------
    DataError
        If a column is missing, is not of categories, or lacks a value.
    """
    return pd.DataFrame({key: _as_text(adata, key) for key in keys}, index=adata.obs_names)


def joined_labels(table: pd.DataFrame) -> np.ndarray:
    """One label per row: the values of all columns, joined; the same for all rows of a table without columns."""
    if table.shape[1] == 0:
        return np.full(len(table), "all cells")
    return np.array([SEPARATOR.join(row) for row in table.itertuples(index=False, name=None)])


def control_values(control: Mapping[str, object] | None) -> dict[str, str]:
    """The values of a control as the compared columns have them: text, whole numbers alike."""
    if not isinstance(control, Mapping | None):
        raise DataError(f"the control is {control!r}; give a mapping such as {{'perturbation': 'control'}}")
    values = {}
    for key, value in (control or {}).items():
        if not np.isscalar(value) or pd.isna(value):
            raise DataError(f"the control of {key!r} is {value!r}; give one value that cells have")
        values[key] = str(_categories(pd.Series([value], name=key))[0])
    return values


def effects_asked(
    training: pd.DataFrame, held_out: np.ndarray, control: Mapping[str, str], n: int
) -> tuple[dict[str, str | None], list[str]]:
    """The labels whose effect is compared, each with its control, or None for all other cells; and a note on the rest.

    They are chosen once, by all held-out cells, of which halves of ``n`` are compared: where a half was chosen for
    having many of a rare condition, the other would have few, and real cells agree less than they do.

    Raises
    ------
    DataError
        If the control names what is not compared, a value that no training cell has, or nothing has a counterpart.
    """
    labels = joined_labels(training)
    pairs: dict[str, str | None] = {**_contrasts(training, control)} or dict.fromkeys(np.unique(labels))
    enough = FEWEST_OF_EFFECT / n
    asked = {a: b for a, b in pairs.items() if min(rows.mean() for rows in inside_outside(held_out, a, b)) >= enough}
    few = [label for label in pairs if label not in asked]
    notes = []
    if few and (len(pairs) > 1 or control):
        notes.append(
            f"Of conditions that have, or are compared with, fewer than {FEWEST_OF_EFFECT} held-out cells per side no "
            f"effects are asked: {some_of(few)}."
        )
    controls = labels[(training[list(control)] == pd.Series(control, dtype=object)).all(axis=1)] if control else ()
    if alone := sorted({*labels} - {*pairs, *controls}):
        notes.append(
            f"No training cells are the controls of these conditions, which have no effects: {some_of(alone)}."
        )
    return asked, notes


def inside_outside(labels: np.ndarray, label: str, control: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The cells of a condition, and those it is compared with: its control, or all others; (cells,) of bool each."""
    return labels == label, labels != label if control is None else labels == control


def _contrasts(training: pd.DataFrame, control: Mapping[str, str]) -> dict[str, str]:
    """For each label the one that differs from it in having the control's values."""
    if not control:
        return {}
    for key, value in control.items():
        if key not in training:
            raise DataError(f"the control names {key!r}, which is not compared; {known(map(str, training), key)}")
        if value not in (values := sorted(set(training[key]))):
            raise DataError(f"no training cell has {key} = {value!r}; {known(values, value)}")
    rows = training.drop_duplicates()
    names, others = joined_labels(rows), joined_labels(rows.assign(**control))
    contrasts = {a: b for a, b in zip(names, others, strict=True) if a != b and b in names}
    if not contrasts:
        said = ", ".join(f"{key} = {value}" for key, value in control.items())
        raise DataError(f"no other condition of the training cells differs from another in {said} alone")
    return contrasts


def some_of(labels: Sequence[str]) -> str:
    """Labels as a sentence names them, the first few of many."""
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return ", ".join(labels[:MOST_NAMED]) + more


def check_labels(labels: Mapping[str, np.ndarray]) -> list[str]:
    """Notes on conditions that the sets do not share, or have in different proportions.

    Raises
    ------
    DataError
        If generated cells share no condition with the others.
    """
    shares = pd.DataFrame({what: pd.Series(of).value_counts(normalize=True) for what, of in labels.items()}).fillna(0.0)
    for what in ("held-out", "training"):
        if not ((shares["generated"] > 0) & (shares[what] > 0)).any():
            given, there = (", ".join(map(repr, shares.index[shares[x] > 0][:5])) for x in ("generated", what))
            raise DataError(f"generated and {what} cells have no condition in common: {given}, and {there}")
    notes = []
    for what in labels:
        lacking = list(shares.index[shares[what] == 0])
        if lacking:
            notes.append(f"No {what} cells of {some_of(lacking)}.")
    generated, held_out = shares["generated"], shares["held-out"]
    if (generated - held_out).abs().sum() / 2 > SHARES_DIFFER + _by_chance(labels):
        notes.append(
            "Generated and held-out cells have their conditions in different proportions, which every score over all "
            "cells sees: generate one cell per held-out cell (latdiff generate --table), or compare like with like."
        )
    return notes


def _by_chance(labels: Mapping[str, np.ndarray]) -> float:
    """Total variation to be expected between the shares in two samples of the same cells, of these sizes."""
    sets = labels["generated"], labels["held-out"]
    both = pd.Series(np.concatenate(sets)).value_counts(normalize=True)
    spread = np.sqrt(both * (1 - both) * sum(1 / len(of) for of in sets))
    return float(spread.sum() / np.sqrt(2 * np.pi))  # half the mean size of a normal deviation


def _generated_for(synthetic: AnnData) -> list[Mapping[str, Any]]:
    """The conditions in the config that generated cells hold; none where another program has written something else."""
    said = synthetic.uns.get("latdiff")
    try:
        config = yaml.safe_load(str(said["config"])) if isinstance(said, Mapping) and "config" in said else None
    except yaml.YAMLError:
        return []
    data = config.get("data") if isinstance(config, Mapping) else None
    conditions = data.get("conditions") if isinstance(data, Mapping) else None
    return [c for c in conditions if isinstance(c, Mapping)] if isinstance(conditions, list) else []


def _as_text(adata: AnnData, key: str) -> pd.Series:
    if key in adata.obsm and key not in adata.obs:
        raise DataError(f"{key!r} is an array of obsm; cells are compared by columns of obs that hold categories")
    column = attribute_column(adata.obs, key)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    elif is_measured(column):
        raise DataError(f"{key!r} holds numbers that are no categories; compare by another column, or bin it")
    given, labels = column.notna().to_numpy(), pd.Series(NO_VALUE, column.index, dtype=str)
    labels[given] = _categories(column[given]).to_numpy()
    return labels


def _categories(column: pd.Series) -> pd.Series:
    return pd.Series(as_text(column), column.index, dtype=str).str.replace(WHOLE, r"\1", regex=True)
