"""AnnData files, read with clear errors and written whole or not at all."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from latdiff_core.errors import DataError, OutputExistsError

if TYPE_CHECKING:
    from anndata import AnnData

SUFFIXES = (".h5ad", ".zarr")


def read_anndata(source: AnnData | str | Path) -> AnnData:
    """An AnnData in memory, from memory, an ``.h5ad`` file or a ``.zarr`` folder.

    Raises
    ------
    DataError
        If the file is missing, is of another kind, or cannot be read.
    """
    if not isinstance(source, str | Path):
        return source.to_memory() if source.isbacked else source
    import anndata

    path = Path(source)
    with _reading(path):
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
        yield source.to_memory() if source.isbacked and source.is_view else source
        return
    path = Path(source)
    if path.suffix != ".h5ad" or not _lies_by_cells(path):
        yield read_anndata(path)
        return
    import anndata

    with _reading(path):
        adata = anndata.read_h5ad(path, backed="r")
    try:
        yield adata
    finally:
        adata.file.close()


def write_anndata(adata: AnnData, path: str | Path, overwrite: bool = False) -> None:
    """Write to a temporary name beside ``path`` and rename, so that a kill leaves no half-written file."""
    path = Path(path)
    check_output(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        if path.suffix == ".h5ad":
            adata.write_h5ad(temporary, compression="gzip")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on the coming default of the zarr format
                adata.write_zarr(temporary)
        replace(temporary, path)
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 under a temporary name beside ``path`` and rename, replacing a file that is there, but no folder."""
    refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        replace(temporary, path)
    finally:
        remove(temporary)


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
        If the file exists, or a file stands where its folder would be.
    """
    _check_suffix(path)
    refuse_existing(path, overwrite)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise OutputExistsError if something is there that nobody allowed to be replaced."""
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; choose another name, or allow it to be replaced with --overwrite")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise OutputExistsError(f"{path} cannot be made, because {folder} is a file; choose another name")


def refuse_folder(path: Path) -> None:
    """Raise OutputExistsError where a file is to be written and a folder stands."""
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give the name of a file")


def replace(temporary: Path, path: Path) -> None:
    """Move a finished file or folder to its name, replacing what is there."""
    if path.is_dir():  # a folder cannot be renamed onto another: step aside first
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(aside)
        try:
            temporary.rename(path)
        except BaseException:
            aside.rename(path)
            raise
        remove(aside)
    else:
        temporary.replace(path)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of which file it is that something could not be read."""
    check_input(path)
    try:
        yield
    except Exception as error:
        raise DataError(f"{path} cannot be read as AnnData ({type(error).__name__}: {error})") from error


def _lies_by_cells(path: Path) -> bool:
    """Whether ``X`` is a matrix of numbers, dense or CSR and complete; another is read whole, or refused then."""
    import h5py

    with _reading(path), h5py.File(path, "r") as file:
        x = file.get("X")
        if isinstance(x, h5py.Dataset):
            return x.ndim == 2 and x.dtype.kind in "iuf"
        if not isinstance(x, h5py.Group) or x.attrs.get("encoding-type") != "csr_matrix":
            return False
        numbers = len(x["data"]), len(x["indices"]), int(x["indptr"][-1])
        if len(set(numbers)) > 1:
            raise ValueError("X has {} counts, {} genes of counts, and cells with {} in all".format(*numbers))
        return "shape" in x.attrs


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} ends in {path.suffix!r}; AnnData files end in {' or '.join(SUFFIXES)}")
