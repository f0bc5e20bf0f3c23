"""From parts to one AnnData file, with one array of one part in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from latdiff_core.data.parts import PartsFolder

if TYPE_CHECKING:
    from anndata import AnnData

ENTRIES = 2**18
"""Numbers per chunk of the file."""
H5_FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

Create = Callable[[str, tuple[int, ...], np.dtype], Any]
"""Makes an array of a name, shape and dtype in the file."""


def write_parts(path: Path, shell: AnnData, parts: PartsFolder, vectors: Mapping[str, str]) -> None:
    """Write an ``.h5ad`` or ``.zarr`` whose ``X`` and vectors are those of all parts, one after the other.

    Parameters
    ----------
    shell
        Everything else: an AnnData without ``X``.
    vectors
        Keys of ``obsm`` with the names of their arrays in the parts.
    """
    with _opened(path, shell) as (root, create):
        _write_matrix(root, create, parts, shell.shape)
        for key, name in vectors.items():
            first = next(parts.read(name))
            array = create(f"obsm/{key}", (shell.n_obs, *first.shape[1:]), first.numpy().dtype)
            array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            _fill(array, parts.read(name))


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
    from anndata.io import write_elem

    if path.suffix == ".h5ad":
        import h5py

        with h5py.File(path, "w") as file:
            write_elem(file, "/", shell, dataset_kwargs={"compression": "gzip"})

            def create(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
                stored = {"chunks": _chunks(shape), **H5_FILTERS} if all(shape) else {}  # HDF5 cannot chunk nothing
                return file.create_dataset(name, shape, dtype, **stored)

            yield file, create
    else:
        import zarr

        root = zarr.open_group(path, mode="w", zarr_format=2)
        write_elem(root, "/", shell)
        yield root, lambda name, shape, dtype: root.create_array(name, shape=shape, dtype=dtype, chunks=_chunks(shape))
        zarr.consolidate_metadata(path)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    rows = max(1, ENTRIES // int(np.prod(shape[1:])))
    return (min(rows, max(1, shape[0])), *shape[1:])
