"""From three AnnData to what metrics see, with everything that was left out said in a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import yaml
from scipy import sparse

from latdiff_core.data import aligned_counts, aligned_values, counts_per_10k, raw_counts
from latdiff_core.data.observations import attribute_column
from latdiff_core.errors import DataError, known
from latdiff_core.evaluation.cells import SEPARATOR, CellSet, Reference, joined_labels
from latdiff_core.evaluation.space import ExpressionSpace

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MOST_CELLS = 2000
"""Per side of a comparison: exact transport grows with the cube of the number of cells."""
MOST_TRAINING_CELLS = 20_000
FEWEST_CELLS = 10


@dataclass(frozen=True)
class Prepared:
    """Everything that is compared.

    Attributes
    ----------
    real, synthetic
        Held-out and generated cells, at most 4,000 each.
    reference
        The training cells.
    conditions
        The columns that labels are made of.
    n
        Cells per side of a comparison.
    notes
        What was left out, for people.
    """

    real: CellSet
    synthetic: CellSet
    reference: Reference
    conditions: tuple[str, ...]
    n: int
    notes: tuple[str, ...]

    def cell_set(self, counts: sparse.csr_matrix, labels: np.ndarray) -> CellSet:
        """Raw counts as metrics see them."""
        return _from_counts(counts, labels, self.reference.space)


def prepare(
    real: AnnData,
    synthetic: AnnData,
    reference: AnnData,
    conditions: Sequence[str] | None,
    control: Mapping[str, str] | None,
    layer: str | None,
    seed: int,
) -> Prepared:
    """Check, align, subsample and project; see ``evaluate`` for the parameters.

    Raises
    ------
    DataError
        If genes differ, a column is missing, or there are too few cells.
    """
    rng, notes = np.random.default_rng(seed), list[str]()
    n = min(real.n_obs // 2, synthetic.n_obs, MOST_CELLS)
    if n < FEWEST_CELLS:
        raise DataError(
            f"{real.n_obs} real and {synthetic.n_obs} synthetic cells are too few to compare; "
            f"at least {2 * FEWEST_CELLS} and {FEWEST_CELLS} are needed"
        )
    keys = _generated_for(synthetic, real, reference) if conditions is None else tuple(conditions)
    real = _part_of(real, 2 * MOST_CELLS, "held-out", rng, notes)
    synthetic = _part_of(synthetic, 2 * MOST_CELLS, "generated", rng, notes)
    reference = _part_of(reference, MOST_TRAINING_CELLS, "training", rng, notes)
    labels = [joined_labels(_columns(cells.obs, keys)) for cells in (real, synthetic, reference)]
    genes = tuple(map(str, reference.var_names))
    counts = raw_counts(reference, layer)
    space = ExpressionSpace.fit(counts, seed=seed)
    training = _from_counts(counts, labels[2], space)
    held_out = _from_counts(aligned_counts(real, genes, layer, whose="the reference's"), labels[0], space)
    return Prepared(
        real=held_out,
        synthetic=_generated(synthetic, genes, labels[1], space, notes),
        reference=Reference(training, space, genes, _contrasts(labels[2], keys, control), seed),
        conditions=keys,
        n=n,
        notes=tuple(notes),
    )


def _from_counts(counts: sparse.csr_matrix, labels: np.ndarray, space: ExpressionSpace) -> CellSet:
    values = counts_per_10k(counts)
    return CellSet(values, counts, space.project_values(values), labels)


def _generated(
    cells: AnnData, genes: Sequence[str], labels: np.ndarray, space: ExpressionSpace, notes: list[str]
) -> CellSet:
    match dict(cells.uns.get("latdiff", {})).get("expression", "counts"):
        case "counts":
            return _from_counts(aligned_counts(cells, genes, allow_empty=True, whose="the reference's"), labels, space)
        case "log_normalised":
            notes.append("The generated cells hold log-normalised values, not counts: they have no library sizes.")
            values = aligned_values(cells, genes, whose="the reference's")
            return CellSet(values, None, space.project_values(values), labels)
        case other:
            raise DataError(
                f"the generated cells hold {other}, which are no cells and are not compared: generate without mean"
            )


def _generated_for(synthetic: AnnData, real: AnnData, reference: AnnData) -> tuple[str, ...]:
    """The categorical conditions that the cells say they were generated for, as far as all sets have them."""
    config = dict(synthetic.uns.get("latdiff", {})).get("config")
    asked = (yaml.safe_load(config)["data"] or {}).get("conditions", ()) if config else ()
    keys = [c["key"] for c in asked if c["kind"] == "categorical"]
    return tuple(k for k in keys if all(k in cells.obs for cells in (synthetic, real, reference)))


def _columns(obs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    for key in keys:
        attribute_column(obs, key)
    return obs[list(keys)]


def _part_of(cells: AnnData, most: int, what: str, rng: np.random.Generator, notes: list[str]) -> AnnData:
    if cells.n_obs <= most:
        return cells
    notes.append(f"A random {most:,} of the {cells.n_obs:,} {what} cells were taken.")
    return cells[np.sort(rng.choice(cells.n_obs, most, replace=False))]


def _contrasts(labels: np.ndarray, keys: Sequence[str], control: Mapping[str, str] | None) -> dict[str, str]:
    """For each label the one that differs from it in having the control's values."""
    names, contrasts = set(labels), {}
    for key, value in (control or {}).items():
        if key not in keys:
            raise DataError(f"the control names {key!r}, which is not compared; {known(keys, key)}")
        if value not in (values := sorted({name.split(SEPARATOR)[keys.index(key)] for name in names})):
            raise DataError(f"no training cell has {key} = {value!r}; {known(values, value)}")
    for name in names if control else ():
        parts = dict(zip(keys, name.split(SEPARATOR), strict=True))
        other = SEPARATOR.join({**parts, **(control or {})}.values())
        if other != name and other in names:
            contrasts[name] = other
    return contrasts
