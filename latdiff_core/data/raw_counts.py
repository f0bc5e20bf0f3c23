"""Raw counts out of an AnnData, checked once at the door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from latdiff_core.errors import DataError, known
from latdiff_core.interfaces import GeneStatistics, PrincipalComponents

if TYPE_CHECKING:
    from anndata import AnnData

LARGEST_COUNT = 2**24
"""Above this, float32 no longer holds every integer."""
THETA_RANGE = (0.01, 100.0)
COMPONENTS = 50
MOST_CELLS = 20_000
"""Principal components of more cells are hardly different, and take much longer."""
SMALLEST_STD = 1e-6


def raw_counts(adata: AnnData, layer: str | None = None, allow_empty: bool = False) -> sparse.csr_matrix:
    """Raw counts as CSR float32, (cells, genes), without stored zeros.

    Raises
    ------
    DataError
        If the layer is missing; if names repeat; if a value is NaN, negative, not an integer or too large; if a cell
        has no counts and ``allow_empty`` is not given. The message names the first offender.
    """
    where = f"layer {layer!r}" if layer else "X"
    if layer and layer not in adata.layers:
        raise DataError(f"there is no layer {layer!r}; {known(adata.layers, layer)}")
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(f"the data has {adata.n_obs} cells and {adata.n_vars} genes; at least one of each is needed")
    matrix = adata.layers[layer] if layer else adata.X
    if matrix is None:
        raise DataError(f"X is empty; name the layer of raw counts ({known(adata.layers)})")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        raise DataError(
            f"{len(twice)} gene names occur more than once, e.g. {', '.join(twice[:5])}; every gene needs its own name "
            "(adata.var_names_make_unique() numbers them)"
        )
    if matrix.dtype.kind not in "fiub":
        raise DataError(f"{where} holds {matrix.dtype}; raw integer counts are needed")
    half = matrix.dtype == np.float16  # which scipy does not take
    counts = sparse.csr_matrix(matrix.astype(np.float32) if half else matrix, copy=True)
    counts.sum_duplicates()
    _check_values(counts, adata, where)
    counts.eliminate_zeros()
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if len(empty) and not allow_empty:
        names = ", ".join(adata.obs_names[empty[:5]])
        raise DataError(
            f"{len(empty)} cells have no counts in {where}, e.g. {names}; remove them "
            "(sc.pp.filter_cells(adata, min_counts=1))"
        )
    return counts.astype(np.float32)


def _check_values(counts: sparse.csr_matrix, adata: AnnData, where: str) -> None:
    values = counts.data

    def first(bad: np.ndarray) -> str:
        entry = int(np.flatnonzero(bad)[0])
        cell = int(np.searchsorted(counts.indptr, entry, side="right")) - 1
        gene = adata.var_names[counts.indices[entry]]
        return f"{values[entry]} at cell {adata.obs_names[cell]!r}, gene {gene!r} ({int(bad.sum())} in all)"

    if values.dtype.kind == "f":
        if (bad := ~np.isfinite(values)).any():
            raise DataError(f"{where} holds {first(bad)}; counts must be finite")
        if (bad := values != np.rint(values)).any():
            raise DataError(
                f"{where} holds {first(bad)}; raw integer counts are needed, not normalised values. "
                f"If the counts are elsewhere, name their layer ({known(adata.layers)}), or copy adata.raw into one"
            )
    if (bad := values < 0).any():
        raise DataError(f"{where} holds {first(bad)}; counts cannot be negative")
    if (bad := values > LARGEST_COUNT).any():
        raise DataError(f"{where} holds {first(bad)}; counts up to {LARGEST_COUNT:,} are supported")


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


def gene_statistics(counts: sparse.csr_matrix) -> GeneStatistics:
    """Mean profile, method-of-moments dispersion, and principal components, without a dense matrix.

    With mu_ij = library_i x fraction_j, theta_j = sum mu^2 / sum((x - mu)^2 - mu).
    """
    counts = counts.astype(np.float64)
    library = np.asarray(counts.sum(1)).ravel()
    totals = np.asarray(counts.sum(0)).ravel()
    fraction = (totals + 0.5) / (totals + 0.5).sum()
    squares = np.asarray(counts.multiply(counts).sum(0)).ravel()
    cross = counts.T @ library
    mu_squares = fraction**2 * (library**2).sum()
    excess = squares - 2 * fraction * cross + mu_squares - fraction * library.sum()
    theta = np.where(excess > 0, mu_squares / np.where(excess > 0, excess, 1.0), THETA_RANGE[1])
    return GeneStatistics(
        fraction=torch.as_tensor(fraction, dtype=torch.float32),
        theta=torch.as_tensor(theta.clip(*THETA_RANGE), dtype=torch.float32),
        log_library=float(np.log(np.maximum(library, 1)).mean()),
        components=principal_components(counts, COMPONENTS),
    )


def principal_components(counts: sparse.csr_matrix, most: int, seed: int = 0) -> PrincipalComponents | None:
    """Principal components of log1p counts per 10,000, of a random 20,000 cells where there are more.

    There are ``most`` of them, or as many as cells and genes allow; None if that is none, or all cells are alike.
    """
    from sklearn.decomposition import PCA

    rows = np.sort(np.random.default_rng(seed).permutation(counts.shape[0])[:MOST_CELLS])
    components = min(most, len(rows) - 1, counts.shape[1] - 1)
    values = counts_per_10k(counts[rows])
    if components < 1 or (values.max(0) != values.min(0)).nnz == 0:
        return None
    pca = PCA(components, svd_solver="arpack", random_state=seed).fit(values)
    arrays = (pca.mean_, pca.components_.T.copy(), np.sqrt(pca.explained_variance_).clip(SMALLEST_STD))
    return PrincipalComponents(*(torch.as_tensor(a, dtype=torch.float32) for a in arrays))
