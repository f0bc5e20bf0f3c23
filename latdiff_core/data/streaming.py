"""From parts to one AnnData file, with one part in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from latdiff_core.data.parts import PartsFolder
from latdiff_core.paths import remove

if TYPE_CHECKING:
    from anndata import AnnData

ENTRIES = 2**18
"""Numbers per chunk of the file."""
H5_FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

Create = Callable[[str, tuple[int, ...], np.dtype], Any]
"""Makes an array of a name, shape and dtype in the file."""


def write_parts(path: Path, shells: Iterable[AnnData], parts: PartsFolder, cells: int) -> None:
    """Write an ``.h5ad`` or ``.zarr`` of all parts, one after the other.

    Parameters
    ----------
    shells
        Of every part all but ``X``. What is not of single cells is taken from the first.
    parts
        Their counts.
    cells
        Of all parts together.
    """
    rest = iter(shells)
    first = next(rest)
    with _opened(path, first) as (root, create):
        _write_matrix(root, create, parts, (cells, first.n_vars))
        start = first.n_obs
        if start < cells:
            for name in _per_cell(first):
                _grow(root, create, name, cells)
        for shell in rest:
            for name, values in _per_cell(shell).items():
                root[name][start : start + shell.n_obs] = values
            start += shell.n_obs


def _per_cell(shell: AnnData) -> dict[str, np.ndarray]:
    """The arrays with a row per cell, by their names in an AnnData file."""
    arrays = {"obs/_index": shell.obs_names.to_numpy(), **{f"obsm/{key}": rows for key, rows in shell.obsm.items()}}
    for key, column in shell.obs.items():
        if column.dtype == "category":
            arrays[f"obs/{key}/codes"] = column.cat.codes.to_numpy()
        else:
            arrays[f"obs/{key}"] = column.to_numpy()
    return arrays


def _grow(root: Any, create: Create, name: str, cells: int) -> None:
    """Make room for all cells in an array that holds the first ones."""
    array = root[name]
    shape = (cells, *array.shape[1:])
    if hasattr(array, "store"):  # zarr
        array.resize(shape)
        return
    values, dtype, attributes = array[:], array.dtype, dict(array.attrs)
    del root[name]
    array = create(name, shape, dtype)
    array.attrs.update(attributes)
    array[: len(values)] = values


def _write_matrix(root: Any, create: Create, parts: PartsFolder, shape: tuple[int, int]) -> None:
    """``X`` as anndata writes a CSR matrix."""
    nonzeros = sum(int(indptr[-1]) for indptr in parts.read("indptr"))
    group = root.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
    for name in ("data", "indices"):
        array = create(f"X/{name}", (nonzeros,), next(parts.read(name)).numpy().dtype)
        _fill(array, parts.read(name))
    indptr = create("X/indptr", (shape[0] + 1,), np.dtype(np.int64))
    indptr[:1] = np.zeros(1, np.int64)
    _fill(indptr, _shifted(parts.read("indptr")), start=1)


def _shifted(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Where each cell's entries end, counted over all parts."""
    before = 0
    for indptr in parts:
        yield indptr[1:] + before
        before += int(indptr[-1])


def _fill(array: Any, parts: Iterable[Tensor], start: int = 0) -> None:
    for part in parts:
        array[start : start + len(part)] = part.numpy()
        start += len(part)


@contextmanager
def _opened(path: Path, shell: AnnData) -> Iterator[tuple[Any, Create]]:
    """A new file with all that ``shell`` holds, and how arrays are made in it."""
    if path.suffix == ".h5ad":
        import h5py

        with h5py.File(path, "w") as file:
            _write(file, shell, {"compression": "gzip"})

            def create(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
                stored = {"chunks": _chunks(shape), **H5_FILTERS} if all(shape) else {}  # HDF5 cannot chunk nothing
                return file.create_dataset(name, shape, dtype, **stored)

            yield file, create
    else:
        import zarr
        from zarr.storage import MemoryStore

        # anndata reads and writes each of some hundred small files several times; here each is written once.
        held: dict[str, Any] = {}
        _write(zarr.open_group(MemoryStore(held), mode="w", zarr_format=2), shell, {})
        remove(path)  # what a joining that failed has left
        for name, content in held.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content.to_bytes())
        root = zarr.open_group(path, mode="r+", zarr_format=2)
        yield root, lambda name, shape, dtype: root.create_array(name, shape=shape, dtype=dtype, chunks=_chunks(shape))
        zarr.consolidate_metadata(path)


def _write(root: Any, shell: AnnData, options: dict[str, Any]) -> None:
    import anndata
    from anndata.io import write_elem

    # Names as one array of text, which every version of anndata reads, and which can grow.
    with anndata.settings.override(allow_write_nullable_strings=False):
        write_elem(root, "/", shell, dataset_kwargs=options)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    rows = max(1, ENTRIES // int(np.prod(shape[1:])))
    return (min(rows, max(1, shape[0])), *shape[1:])
