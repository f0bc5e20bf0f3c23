"""What to generate, as the command line says it."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from latdiff_core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def settings(where: Sequence[str], option: str = "--where") -> dict[str, str]:
    """``key=value`` texts as one setting for all cells."""
    asked = {}
    for text in where:
        key, equals, value = text.partition("=")
        if not equals:
            raise DataError(f'{option} {text}: write it as key=value, e.g. {option} cell_type="B cell"')
        if key in asked:
            hint = "; give a --table, with a row per cell, for cells of several kinds" if option == "--where" else ""
            raise DataError(f"{option} names {key!r} twice, and has one value{hint}")
        asked[key] = value
    return asked


def read_table(path: Path, keys: Sequence[str]) -> pd.DataFrame:
    """One row of conditions per cell.

    A CSV is taken whole, every value as its text: 001 stays 001, and NA is a name. Of an ``.h5ad`` or ``.zarr``, the
    columns of ``obs`` and the arrays of ``obsm`` that are among ``keys`` are taken.
    """
    import pandas as pd

    from latdiff_core.data import annotation_table, open_anndata

    if path.suffix in (".h5ad", ".zarr"):
        with open_anndata(path) as cells:
            said = annotation_table(cells, keys)
        if not (found := [key for key in keys if key in said]):
            raise DataError(
                f"{path} says nothing of the model's conditions ({', '.join(keys)})"
                if keys
                else "the model has no conditions; give the number of cells (-n) instead of a table"
            )
        return said[found]
    if not path.is_file():
        raise DataError(f"{path} is a folder; give a CSV" if path.is_dir() else f"{path} does not exist")
    try:
        lines = StringIO(path.read_text(encoding="utf-8-sig").strip("\r\n"))  # blank lines between others are cells
        table = pd.read_csv(lines, dtype=str, keep_default_na=False, na_values=[""], skip_blank_lines=False)
    except ValueError as error:  # pandas' own errors and that of a wrong encoding are ValueErrors
        raise DataError(f"{path} is not a CSV table in UTF-8: {error}") from None
    if len(table.columns) == 1 and any(mark in str(table.columns[0]) for mark in ";\t"):
        raise DataError(f"the columns of {path} are not separated by commas; save it with commas")
    if str(table.columns[0]).startswith("Unnamed"):
        raise DataError(f"the first column of {path} has no name; save it without row numbers (index=False)")
    return table
