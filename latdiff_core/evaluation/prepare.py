"""From three AnnData to what metrics see, with everything that was left out said in a note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from latdiff_core.data import aligned_counts, aligned_values, counts_per_10k, raw_counts
from latdiff_core.errors import DataError
from latdiff_core.evaluation.cells import CellSet, Reference
from latdiff_core.evaluation.conditions import (
    check_labels,
    compared_columns,
    condition_table,
    effects_asked,
    joined_labels,
)
from latdiff_core.evaluation.space import ExpressionSpace

if TYPE_CHECKING:
    from anndata import AnnData

MOST_CELLS = 2000
"""Per side of a comparison: exact transport grows with the cube of the number of cells."""
MOST_TRAINING_CELLS = 20_000
"""That metrics learn from; copies are looked for among all."""
READ_AT_ONCE = 4096
BY_CHANCE = 0.01
"""Share of generated cells that may be real ones, count for count: those of very few counts can be."""
FEWEST_HELD_OUT = 20
"""Held-out cells, and generated ones, that an evaluation needs at least."""


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
        Cells per side of a comparison: half of the held-out cells or of the generated ones, whichever are fewer.
    notes
        What was left out or stands in the way, for people.
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
    conditions: Sequence[str] | str | None,
    control: Mapping[str, str],
    layer: str | None,
    seed: int,
) -> Prepared:
    """Check, align, subsample and project; see ``evaluate`` for the parameters.

    Raises
    ------
    DataError
        If genes differ, a column is missing, or there are too few cells.
    """
    sets = {"held-out": real, "generated": synthetic, "training": reference}
    n = min(real.n_obs // 2, synthetic.n_obs // 2, MOST_CELLS)
    if min(real.n_obs, synthetic.n_obs) < FEWEST_HELD_OUT:
        raise DataError(
            f"{real.n_obs} held-out and {synthetic.n_obs} generated cells are too few to compare; "
            f"at least {FEWEST_HELD_OUT} of each are needed"
        )
    keys, notes = compared_columns(conditions, sets)
    notes += _notes_on_roles(sets)
    rng, most = np.random.default_rng(seed), {"training": MOST_TRAINING_CELLS}
    tables = {}
    for what, cells in sets.items():
        with _whose(what):
            tables[what] = condition_table(cells, keys)
        rows = np.arange(cells.n_obs)
        if cells.n_obs > (limit := most.get(what, 2 * MOST_CELLS)):
            notes.append(f"A random {limit:,} of the {cells.n_obs:,} {what} cells were taken (seed {seed}).")
            rows = np.sort(rng.choice(cells.n_obs, limit, replace=False))
        sets[what], tables[what] = cells[rows], tables[what].iloc[rows]
    labels = {what: joined_labels(table) for what, table in tables.items()}
    genes = tuple(map(str, reference.var_names))
    with _whose("training"):
        counts = raw_counts(sets["training"], layer)
        space = ExpressionSpace.fit(counts, seed=seed)
    with _whose("held-out"):
        held_out = aligned_counts(sets["held-out"], genes, layer, whose="the training cells'")
    with _whose("generated"):
        made = _generated(sets["generated"], genes, labels["generated"], space)
    if made.counts is None:
        notes.append("The generated cells hold log-normalised values, not counts: they have no library sizes.")
    if made.counts is not None:
        notes += _notes_on_identity(made.counts, held_out)
    points, leaked = _all_training_cells(reference, layer, space, held_out)
    notes += [*check_labels(labels), *leaked]
    training = _from_counts(counts, labels["training"], space)
    effects, without = effects_asked(tables["training"], labels["held-out"], control, n)
    return Prepared(
        real=_from_counts(held_out, labels["held-out"], space),
        synthetic=made,
        reference=Reference(training, points, space, genes, effects, seed),
        conditions=tuple(keys),
        n=n,
        notes=(*notes, *without),
    )


def _notes_on_roles(sets: Mapping[str, AnnData]) -> list[str]:
    """Notes where cells say that they are not what they are given as."""
    said = {what: cells.uns.get("latdiff") for what, cells in sets.items()}
    notes = [
        f"The {what} cells say that they were generated: are the files in the right order?"
        for what in ("held-out", "training")
        if isinstance(said[what], Mapping) and "expression" in said[what]
    ]
    data = said["generated"].get("data") if isinstance(said["generated"], Mapping) else None
    fitted, given = str(data.get("cells")) if isinstance(data, Mapping) else "", sets["training"].n_obs
    if fitted.isdigit() and int(fitted) != given:
        notes.append(
            f"The model was fitted on {int(fitted):,} cells, and {given:,} training cells were given: if held-out "
            "cells are among those it was fitted on, copying cannot be seen, and scores are too good."
        )
    return notes


def _from_counts(counts: sparse.csr_matrix, labels: np.ndarray, space: ExpressionSpace) -> CellSet:
    values = counts_per_10k(counts)
    return CellSet(values, counts, space.project_values(values), labels)


def _generated(cells: AnnData, genes: Sequence[str], labels: np.ndarray, space: ExpressionSpace) -> CellSet:
    said = cells.uns.get("latdiff")
    match str(said.get("expression", "counts")) if isinstance(said, Mapping) else "counts":
        case "counts":
            counts = aligned_counts(cells, genes, allow_empty=True, whose="the training cells'")
            return _from_counts(counts, labels, space)
        case "log_normalised":
            values = aligned_values(cells, genes, whose="the training cells'")
            return CellSet(values, None, space.project_values(values), labels)
        case other:
            raise DataError(f"they hold {other}, which are no cells and are not compared: generate without mean")


def _notes_on_identity(made: sparse.csr_matrix, held_out: sparse.csr_matrix) -> list[str]:
    """A note where generated cells are held-out ones, count for count."""
    known = {_content(held_out, i) for i in range(held_out.shape[0])}
    shared = sum(_content(made, i) in known for i in range(made.shape[0]))
    if shared <= BY_CHANCE * made.shape[0]:
        return []
    return [
        f"{shared:,} of the {made.shape[0]:,} generated cells are held-out cells, count for count: they were not "
        "generated, or by a model that was fitted on them."
    ]


def _all_training_cells(
    training: AnnData, layer: str | None, space: ExpressionSpace, held_out: sparse.csr_matrix
) -> tuple[np.ndarray, list[str]]:
    """Principal components of every training cell, and a note when held-out cells are among them, count for count."""
    contents = [_content(held_out, i) for i in range(held_out.shape[0])]
    looked_for, points = frozenset(contents), []
    seen: set[tuple[bytes, bytes]] = set()
    for start in range(0, training.n_obs, READ_AT_ONCE):
        with _whose("training"):
            counts = raw_counts(training[start : start + READ_AT_ONCE], layer)
        points.append(space.project(counts))
        seen |= looked_for.intersection(_content(counts, i) for i in range(counts.shape[0]))
    notes = []
    if shared := sum(content in seen for content in contents):
        notes = [
            f"{shared:,} of the {len(contents):,} held-out cells are among the training cells, count for count: they "
            "are not held out, the floor is too low, and copying cannot be seen."
        ]
    return np.concatenate(points), notes


def _content(counts: sparse.csr_matrix, row: int) -> tuple[bytes, bytes]:
    entries = slice(counts.indptr[row], counts.indptr[row + 1])
    genes = counts.indices[entries].astype(np.int64)  # which a file may hold in fewer bytes than memory does
    order = np.argsort(genes)
    return genes[order].tobytes(), counts.data[entries][order].tobytes()


@contextmanager
def _whose(what: str) -> Iterator[None]:
    """Say which of the three sets of cells an error is about."""
    try:
        yield
    except (DataError, OSError) as error:  # of HDF5, where what is read from a file is damaged
        raise DataError(f"{what} cells: {error}") from None
