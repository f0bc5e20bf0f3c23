"""``latdiff split``: cells for training, and cells to compare with that no model has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from latdiff_core.data import open_anndata, stratified_split, write_anndata
from latdiff_core.data.files import check_output
from latdiff_core.data.observations import attribute_column
from latdiff_core.errors import DataError
from latdiff_core.paths import refuse_input, remove

TRAIN, HELD_OUT = "train.h5ad", "held_out.h5ad"


def split_to_folder(
    data: Path, out: Path, *, by: Sequence[str], share: float, seed: int, overwrite: bool
) -> dict[Path, int]:
    """Write ``OUT/train.h5ad`` and ``OUT/held_out.h5ad``, and return how many cells each has.

    Parameters
    ----------
    by
        Columns of ``obs``: of every combination of their values the share is held out; cells with a missing value are
        one of them. Without any it is held out of all cells alike.

    Raises
    ------
    DataError
        If a column is missing, or no cell would be held out.
    OutputExistsError
        If one of the files exists, or is the one to split.
    """
    if not 0 < share < 1:
        raise DataError(f"--share is {share:g}; give one between 0 and 1, such as 0.3")
    for path in (out / TRAIN, out / HELD_OUT):
        check_output(path, overwrite)
        refuse_input(path, data)
    with open_anndata(data) as cells:
        if cells.n_obs == 0:
            raise DataError(f"{data} holds no cells")
        groups = pd.DataFrame({key: attribute_column(cells.obs, key) for key in by}, index=cells.obs.index)
        labels = groups.groupby(list(by), dropna=False, observed=True).ngroup() if by else pd.Series(0, groups.index)
        train, held_out = stratified_split(labels.to_numpy(), share, seed)
        if not len(held_out):
            raise DataError(
                f"of none of the {labels.nunique()} groups of {len(labels)} cells is {share:g} a whole cell: raise "
                "--share, or stratify --by fewer columns"
            )
        remove(out / TRAIN)  # an older one must not stand beside cells that are held out of another split
        for name, rows in ((HELD_OUT, held_out), (TRAIN, train)):
            chosen = cells[rows]
            write_anndata(chosen.to_memory() if cells.isbacked else chosen.copy(), out / name, overwrite)
    return {out / TRAIN: len(train), out / HELD_OUT: len(held_out)}
