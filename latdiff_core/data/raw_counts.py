"""Raw counts out of an AnnData, checked once at the door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pandas as pd
from scipy import sparse

from latdiff_core.errors import DataError, known

if TYPE_CHECKING:
    from anndata import AnnData

LARGEST_COUNT = 2**24
"""Above this, float32 no longer holds every integer."""


@dataclass(frozen=True)
class MatrixNames:
    """What errors call a matrix of counts, its cells and its genes.

    Attributes
    ----------
    where
        ``X``, or the layer.
    cells, genes
        Names of all cells and genes.
    layers
        Where the counts may be instead.
    raw
        Whether they may be in ``raw``.
    """

    where: str
    cells: pd.Index
    genes: pd.Index
    layers: tuple[str, ...]
    raw: bool

    @property
    def elsewhere(self) -> str:
        """Where else the counts may be."""
        of_raw = " or, if adata.raw has them, fit adata.raw.to_adata()" if self.raw else ""
        return f"name the layer of raw counts ({known(self.layers)}){of_raw}"


def raw_counts(adata: AnnData, layer: str | None = None, allow_empty: bool = False) -> sparse.csr_matrix:
    """Raw counts as CSR float32, (cells, genes), without stored zeros.

    Raises
    ------
    DataError
        If the layer is missing; if names repeat; if a value is NaN, negative, not an integer or too large; if a cell
        has no counts and ``allow_empty`` is not given. The message names the first offender.
    """
    matrix = adata.layers.get(layer) if layer else adata.X
    layers = tuple(name for name in adata.layers if name is not None)  # as X is called there since anndata 0.13
    names = check_matrix(adata, None if matrix is None else matrix.dtype, layer, layers)
    half = matrix.dtype == np.float16  # which scipy does not take
    counts = sparse.csr_matrix(matrix.astype(np.float32) if half else matrix, copy=True)
    return checked_counts(counts, names, np.arange(adata.n_obs), allow_empty)


def check_matrix(adata: AnnData, dtype: np.dtype | None, layer: str | None, layers: tuple[str, ...]) -> MatrixNames:
    """The names for errors, once all is checked that needs no values; ``dtype`` is None where there is no matrix.

    Raises
    ------
    DataError
        If the layer or ``X`` is missing, there are no cells or genes, gene names repeat, or the dtype is no number.
    """
    where = f"layer {layer!r}" if layer else "X"
    names = MatrixNames(where, adata.obs_names, adata.var_names, layers, adata.raw is not None)
    if layer and dtype is None:
        raise DataError(f"there is no layer {layer!r}; {known(layers, layer)}")
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(f"the data has {adata.n_obs} cells and {adata.n_vars} genes; at least one of each is needed")
    if dtype is None:
        raise DataError(f"X is empty; {names.elsewhere}")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        raise DataError(
            f"{len(twice)} gene names occur more than once, e.g. {', '.join(twice[:5])}; every gene needs its own name "
            "(adata.var_names_make_unique() numbers them)"
        )
    if dtype.kind not in "fiub":
        raise DataError(f"{where} holds {dtype}; raw integer counts are needed")
    return names


def checked_counts(
    counts: sparse.csr_matrix, names: MatrixNames, cells: np.ndarray, allow_empty: bool = False
) -> sparse.csr_matrix:
    """Values of some cells as they are stored, which this changes, as raw counts: float32, without stored zeros.

    ``cells`` says which of the named cells the rows are.

    Raises
    ------
    DataError
        If a value is no count, or a cell has none and ``allow_empty`` is not given.
    """
    counts.sum_duplicates()
    found = "" if len(cells) == len(names.cells) else "at least "  # the cells that were not looked at may have more
    if not _are_counts(counts.data):
        _refuse_values(counts, names, cells, found)
    counts.eliminate_zeros()
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if len(empty) and not allow_empty:
        raise DataError(
            f"{found}{len(empty)} cells have no counts in {names.where}, e.g. "
            f"{', '.join(names.cells[cells[empty[:5]]])}; remove them (sc.pp.filter_cells(adata, min_counts=1))"
        )
    return counts.astype(np.float32, copy=False)


def _are_counts(values: np.ndarray) -> bool:
    """Whether all are counts, in as few passes as it takes; NaN fails every comparison."""
    if len(values) == 0 or values.dtype.kind == "b":
        return True
    within = bool(values.min() >= 0 and values.max() <= LARGEST_COUNT)
    return within and (values.dtype.kind != "f" or bool((np.rint(values) == values).all()))


def _refuse_values(counts: sparse.csr_matrix, names: MatrixNames, cells: np.ndarray, found: str) -> NoReturn:
    """Raise the DataError that names the first value that is no count."""
    values, where = counts.data, names.where

    def first(bad: np.ndarray) -> str:
        entry = int(np.flatnonzero(bad)[0])
        cell = cells[int(np.searchsorted(counts.indptr, entry, side="right")) - 1]
        gene = names.genes[counts.indices[entry]]
        return f"{values[entry]} at cell {names.cells[cell]!r}, gene {gene!r} ({found}{int(bad.sum())} in all)"

    if values.dtype.kind == "f":
        if (bad := ~np.isfinite(values)).any():
            raise DataError(f"{where} holds {first(bad)}; counts must be finite")
        if (bad := values != np.rint(values)).any():
            raise DataError(
                f"{where} holds {first(bad)}; raw integer counts are needed, not normalised values. If the counts are "
                f"elsewhere, {names.elsewhere}; estimated counts that are fractions can be rounded"
            )
    if (bad := values < 0).any():
        raise DataError(f"{where} holds {first(bad)}; counts cannot be negative")
    raise DataError(f"{where} holds {first(values > LARGEST_COUNT)}; counts up to {LARGEST_COUNT:,} are supported")


def aligned_counts(
    adata: AnnData,
    genes: Sequence[str],
    layer: str | None = None,
    allow_empty: bool = False,
    whose: str = "the model's",
) -> sparse.csr_matrix:
    """Raw counts with the given genes in the given order; genes are matched by name.

    Raises
    ------
    DataError
        If the data lacks a gene, or has one that is not asked for.
    """
    return raw_counts(adata, layer, allow_empty)[:, _columns(adata, genes, whose)].tocsr()


def aligned_values(adata: AnnData, genes: Sequence[str], whose: str = "the model's") -> sparse.csr_matrix:
    """Log-normalised values in ``X`` with the given genes in the given order, CSR float32.

    Raises
    ------
    DataError
        If the genes differ, or a value is not finite.
    """
    values = sparse.csr_matrix(adata.X, dtype=np.float32)
    if not np.isfinite(values.data).all():
        raise DataError("X holds values that are not finite")
    return values[:, _columns(adata, genes, whose)].tocsr()


def _columns(adata: AnnData, genes: Sequence[str], whose: str) -> np.ndarray:
    """Where each of the genes is among those of the data, which must be the same."""
    asked, given = set(genes), set(adata.var_names)
    if asked != given:
        lacking, surplus = [g for g in genes if g not in given], [g for g in adata.var_names if g not in asked]
        examples = "; ".join(
            f"{len(names)} {what}, e.g. {', '.join(names[:5])}"
            for names, what in ((lacking, "are missing"), (surplus, "are not among them"))
            if names
        )
        hint = "; select the known ones with adata[:, genes]" if not lacking else ""
        raise DataError(f"the genes differ from {whose} {len(asked)}: {examples}{hint}")
    columns: np.ndarray = adata.var_names.get_indexer(list(genes))
    return columns


def counts_per_10k(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p of counts per 10,000, as CSR float32; a cell without counts stays zero."""
    library = np.asarray(counts.sum(1)).ravel()
    scaled = sparse.diags(1e4 / np.maximum(library, 1.0)) @ counts
    return scaled.log1p().tocsr().astype(np.float32)
