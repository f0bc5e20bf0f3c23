"""Cells for training, and cells to compare with that no model has seen, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latdiff_core.data import attribute_column, check_output, open_anndata, stratified_split, write_anndata
from latdiff_core.errors import DataError
from latdiff_core.paths import refuse_input, remove

if TYPE_CHECKING:
    from anndata import AnnData

TRAIN, HELD_OUT = "train.h5ad", "held_out.h5ad"


def split_to_folder(
    data: AnnData | str | Path, out: Path, *, by: Sequence[str], share: float, seed: int, overwrite: bool
) -> dict[Path, int]:
    """Write ``OUT/train.h5ad`` and ``OUT/held_out.h5ad``, and return how many cells each has.

    Raises
    ------
    DataError
        As ``split_rows``.
    OutputExistsError
        If one of the files exists, or is the one to split.
    """
    for path in (out / TRAIN, out / HELD_OUT):
        check_output(path, overwrite)
        if isinstance(data, str | Path):
            refuse_input(path, Path(data))
    with open_anndata(data) as cells:
        split = split_rows(cells, by, share, seed)
        remove(out / TRAIN)  # an older one must not stand beside cells that are held out of another split
        for name, rows in split.items():
            chosen = cells[rows]
            write_anndata(chosen.to_memory() if cells.isbacked else chosen.copy(), out / name, overwrite)
    return {out / name: len(rows) for name, rows in split.items()}


def split_rows(cells: AnnData, by: Sequence[str], share: float, seed: int) -> dict[str, np.ndarray]:
    """Rows of the cells that are held out, and of those for training, by the names of their files.

    Parameters
    ----------
    by
        Columns of ``obs``: of every combination of their values the share is held out; cells with a missing value are
        one of them. Without any it is held out of all cells alike.

    Raises
    ------
    DataError
        If a column is missing, no cell would be held out, or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of held-out cells is {share:g}; give one between 0 and 1, such as 0.3")
    if cells.n_obs == 0:
        raise DataError("there are no cells to split")
    columns = {key: attribute_column(cells.obs, key) for key in by}  # as text: the order of categories is no matter
    groups = pd.DataFrame({k: c.astype(str).where(c.notna()) for k, c in columns.items()}, index=cells.obs.index)
    labels = groups.groupby(list(by), dropna=False, observed=True).ngroup() if by else pd.Series(0, groups.index)
    train, held_out = stratified_split(labels.to_numpy(), share, seed)
    if not len(held_out):
        raise DataError(
            f"of none of the {labels.nunique()} groups of {len(labels)} cells is {share:g} a whole cell: raise the "
            "share, or split by fewer columns"
        )
    return {HELD_OUT: held_out, TRAIN: train}
