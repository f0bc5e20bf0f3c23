"""Raw counts that stay in their file, of which some cells at a time are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from latdiff_core.data.chunks import Counts
from latdiff_core.data.files import read_anndata, reading
from latdiff_core.data.raw_counts import MatrixNames, check_matrix, checked_counts, raw_counts
from latdiff_core.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

GAP = 16
"""Unwanted cells between two wanted ones that are read along: another reading would cost more."""
LONGEST_RUN = 4096
"""Most cells, wanted or not, of one reading."""
DENSE_VALUES = 2**24
"""Most values of one reading of a dense matrix."""


@contextmanager
def open_counts(
    source: AnnData | str | Path, layer: str | None, keys: Sequence[str], on_disk: bool
) -> Iterator[tuple[AnnData, Counts]]:
    """What is said of the cells (``obs``, ``var`` and what ``keys`` name in ``obsm``), and their raw counts.

    Counts are read into memory, or, with ``on_disk`` and of a backed AnnData, stay in the file, which is open until
    the end. A view of a backed AnnData is read into memory.

    Raises
    ------
    DataError
        If the source cannot be read, or not in this way. Values in memory are checked here, those on disk whenever
        they are read.
    """
    given = None if isinstance(source, str | Path) else source
    backed = given is not None and given.isbacked and not given.is_view
    if not (on_disk or backed):
        cells = read_anndata(source)
        yield cells, raw_counts(cells, layer)
        return
    if given is not None and not backed:
        raise DataError("on_disk needs the path of an .h5ad or .zarr, or a backed AnnData; this one is in memory")
    path = Path(source if given is None else given.filename)
    with _opened(path) as file:
        cells = _annotations(file, path, keys) if given is None else given
        yield cells, _counts(file, path, cells, layer)


class CountsOnDisk:
    """Counts of which the cells that are asked for are read and checked; see ``Counts``."""

    def __init__(self, rows: _DenseRows | _SparseRows, names: MatrixNames) -> None:
        self.rows, self.names = rows, names
        self.shape = rows.shape

    def __getitem__(self, cells: np.ndarray) -> sparse.csr_matrix:
        """The given cells in the given order; those that are near each other in the file are read together.

        Raises
        ------
        DataError
            If a value is no count, or a cell has none.
        """
        wanted, place = np.unique(np.asarray(cells, dtype=np.int64), return_inverse=True)
        counts = checked_counts(self.rows.read(wanted), self.names, wanted)
        return counts if np.array_equal(place, np.arange(len(wanted))) else counts[place]


class _SparseRows:
    """Rows of a stored CSR matrix; where each begins is held in memory, 8 bytes per cell."""

    def __init__(self, group: Any) -> None:
        rows, columns = group.attrs["shape"]
        self.shape = int(rows), int(columns)
        self.indptr = np.asarray(group["indptr"][:], dtype=np.int64)
        self.data, self.indices = _Vector(group["data"]), _Vector(group["indices"])

    def read(self, cells: np.ndarray) -> sparse.csr_matrix:
        """The rows of some cells in ascending order."""
        lengths = np.diff(self.indptr)
        indptr = np.concatenate([[0], np.cumsum(lengths[cells])])
        data = np.empty(indptr[-1], _known_to_scipy(self.data.dtype))
        indices = np.empty(indptr[-1], np.int32)
        end = 0
        for run in _runs(cells, LONGEST_RUN):
            start, stop = run[0], run[-1] + 1
            wanted = np.zeros(stop - start, dtype=bool)
            wanted[run - start] = True
            entries = wanted.repeat(lengths[start:stop])
            begin, end = end, end + lengths[run].sum()
            data[begin:end] = self.data.read(self.indptr[start], self.indptr[stop])[entries]
            indices[begin:end] = self.indices.read(self.indptr[start], self.indptr[stop])[entries]
        return sparse.csr_matrix((data, indices, indptr), shape=(len(cells), self.shape[1]))


class _DenseRows:
    """Rows of a stored dense matrix."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = int(array.shape[0]), int(array.shape[1])

    def read(self, cells: np.ndarray) -> sparse.csr_matrix:
        """The rows of some cells in ascending order."""
        dtype, parts = _known_to_scipy(self.array.dtype), []
        for run in _runs(cells, max(1, DENSE_VALUES // self.shape[1])):
            values = self.array[run[0] : run[-1] + 1][run - run[0]]
            parts.append(sparse.csr_matrix(values.astype(dtype, copy=False)))
        return sparse.vstack(parts, format="csr")


class _Vector:
    """A stored vector, read in ascending ranges; what was read last is kept, whole stored chunks of it.

    A chunk of a compressed file can only be unpacked as a whole, and the next range often lies in the same.
    """

    def __init__(self, array: Any) -> None:
        self.array, self.dtype = array, array.dtype
        self.chunk = array.chunks[0] if array.chunks else 1
        self.start, self.kept = 0, np.empty(0, array.dtype)

    def read(self, first: int, last: int) -> np.ndarray:
        """The values from ``first`` up to but without ``last``."""
        if first < self.start or last > self.start + len(self.kept):
            self.start = first - first % self.chunk
            self.kept = self.array[self.start : -(-last // self.chunk) * self.chunk]
        return self.kept[first - self.start : last - self.start]


def _runs(cells: np.ndarray, longest: int) -> list[np.ndarray]:
    """Ascending cells, cut where a reading ends: at gaps, and where one would span more than ``longest`` cells."""
    return np.split(cells, np.flatnonzero((np.diff(cells) > GAP) | (np.diff(cells // longest) > 0)) + 1)


def _known_to_scipy(dtype: np.dtype) -> np.dtype:
    """The dtype itself, in the byte order of this machine, and float32 for half precision."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def _counts(file: Any, path: Path, cells: AnnData, layer: str | None) -> CountsOnDisk:
    """The counts in ``X`` or the layer, checked as far as it takes no values."""
    stored = file.get(f"layers/{layer}" if layer else "X")
    sparse_matrix = hasattr(stored, "keys")
    values = stored["data"] if sparse_matrix else stored
    empty = values is None or values.shape is None
    names = check_matrix(cells, None if empty else values.dtype, layer, tuple(file.get("layers", ())))
    encoding = stored.attrs.get("encoding-type")
    if sparse_matrix and encoding != "csr_matrix":
        raise DataError(
            f"{names.where} in {path} is stored as {encoding}, of which cells cannot be read one after another; store "
            "it by cells once (adata.X = adata.X.tocsr(), and write it again), or fit without on_disk"
        )
    rows = _SparseRows(stored) if sparse_matrix else _DenseRows(stored)
    if rows.shape != cells.shape:
        raise DataError(f"{path} is damaged: {names.where} is {rows.shape}, but obs and var are of {cells.shape}")
    return CountsOnDisk(rows, names)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file or folder as a group that is only read."""
    if path.suffix == ".h5ad":
        import h5py

        with reading(path):
            file = h5py.File(path, "r")
        with file:
            yield file
    else:
        import zarr

        with reading(path):
            group = zarr.open_group(path, mode="r")
        yield group


def _annotations(file: Any, path: Path, keys: Sequence[str]) -> AnnData:
    """An AnnData without counts."""
    import anndata
    from anndata.io import read_elem

    with reading(path):
        obs, var = read_elem(file["obs"]), read_elem(file["var"])
        obsm = {key: read_elem(file[f"obsm/{key}"]) for key in keys if f"obsm/{key}" in file}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on names that repeat, which are refused later
            return anndata.AnnData(obs=obs, var=var, obsm=obsm)
