"""AnnData files, read with clear errors and written whole or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from latdiff_core.errors import DataError, OutputExistsError
from latdiff_core.paths import refuse_existing, refuse_unless_file, written_whole

if TYPE_CHECKING:
    from anndata import AnnData

SUFFIXES = (".h5ad", ".zarr")
ZARR_FILES = (".zgroup", "zarr.json")
"""One of which every folder of zarr holds, by its format."""


def read_anndata(source: AnnData | str | Path) -> AnnData:
    """An AnnData in memory, from memory, an ``.h5ad`` file or a ``.zarr`` folder.

    Raises
    ------
    DataError
        If the file is missing, is of another kind, or cannot be read.
    """
    if not isinstance(source, str | Path):
        _check_type(source)
        return source.to_memory() if source.isbacked else source
    import anndata

    path = Path(source)
    with reading(path):
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


@contextmanager
def open_anndata(source: AnnData | str | Path) -> Iterator[AnnData]:
    """An AnnData of which some cells are wanted: ``X`` of an ``.h5ad`` stays in the file, which is open until the end.

    A ``.zarr`` is read whole, and so are layers and what has no cell in one place. An AnnData that is given is left as
    it is, but for a view of a backed one, of which cells cannot be taken again and which is read.

    Raises
    ------
    DataError
        If the file is missing, is of another kind, or cannot be read.
    """
    if not isinstance(source, str | Path):
        _check_type(source)
        yield source.to_memory() if source.isbacked and source.is_view else source
        return
    path = Path(source)
    if path.suffix != ".h5ad" or not _lies_by_cells(path):
        yield read_anndata(path)
        return
    import anndata

    with reading(path):
        adata = anndata.read_h5ad(path, backed="r")
    try:
        yield adata
    finally:
        adata.file.close()


def write_anndata(adata: AnnData, path: str | Path, overwrite: bool = False) -> None:
    """Write whole or not at all."""
    path = Path(path)
    check_output(path, overwrite)
    with written_whole(path) as temporary:
        if path.suffix == ".h5ad":
            adata.write_h5ad(temporary, compression="gzip")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on the coming default of the zarr format
                adata.write_zarr(temporary)


def check_input(path: Path) -> None:
    """Raise DataError unless this is the path of an AnnData file that exists."""
    _check_suffix(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse, before any work is done, a file that could not be written at the end.

    Raises
    ------
    DataError
        If the ending is not one of AnnData's.
    OutputExistsError
        If the file exists, a file stands where its folder would be, or what would be replaced is a folder of another
        kind.
    """
    _check_suffix(path)
    refuse_existing(path, overwrite)
    if path.suffix == ".h5ad":
        refuse_unless_file(path)
    elif path.is_dir() and not any((path / name).exists() for name in ZARR_FILES):
        raise OutputExistsError(f"{path} is a folder, but holds no cells, so it is not replaced; choose another name")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of which file it is that something could not be read."""
    check_input(path)
    try:
        yield
    except Exception as error:
        raise DataError(f"{path} cannot be read as AnnData ({type(error).__name__}: {error})") from error


def _lies_by_cells(path: Path) -> bool:
    """Whether ``X`` is a matrix of numbers, dense or CSR and complete; another is read whole, or refused then."""
    import h5py

    with reading(path), h5py.File(path, "r") as file:
        x = file.get("X")
        if isinstance(x, h5py.Dataset):
            return x.ndim == 2 and x.dtype.kind in "iuf"
        if not isinstance(x, h5py.Group) or x.attrs.get("encoding-type") != "csr_matrix":
            return False
        numbers = len(x["data"]), len(x["indices"]), int(x["indptr"][-1])
        if len(set(numbers)) > 1:
            raise ValueError("X has {} counts, {} genes of counts, and cells with {} in all".format(*numbers))
        return "shape" in x.attrs


def _check_type(source: object) -> None:
    if not hasattr(source, "isbacked"):
        raise DataError(f"a {type(source).__name__} was given; give an AnnData, or the path of an .h5ad or .zarr")


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} ends in {path.suffix!r}; AnnData files end in {' or '.join(SUFFIXES)}")
