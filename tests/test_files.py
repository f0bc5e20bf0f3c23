"""AnnData files: read with clear errors, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

from latdiff_core.data import open_anndata, raw_counts, read_anndata, write_anndata
from latdiff_core.errors import DataError, OutputExistsError

SUFFIXES = [".h5ad", ".zarr"]


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_generated_cells_survive_the_file(fitted_model, tmp_path, suffix):
    cells = fitted_model.generate(10, {"cell_type": "NK"})
    write_anndata(cells, tmp_path / "new" / f"cells{suffix}")
    back = read_anndata(tmp_path / "new" / f"cells{suffix}")
    np.testing.assert_array_equal(back.X.toarray(), cells.X.toarray())
    assert back.X.dtype.kind == "i"
    assert back.obs["cell_type"].tolist() == ["NK"] * 10
    assert back.obs["cell_type"].cat.categories.tolist() == ["B", "NK", "T"]
    assert back.uns["latdiff"]["versions"] == cells.uns["latdiff"]["versions"]
    assert [f.name for f in (tmp_path / "new").iterdir()] == [f"cells{suffix}"]


def test_what_is_no_anndata_is_named():
    for read in (read_anndata, lambda source: open_anndata(source).__enter__()):
        with pytest.raises(DataError, match="a ndarray was given; give an AnnData"):
            read(np.ones((2, 2)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_exists_is_replaced_only_when_told(tiny_data, tmp_path, suffix):
    path = tmp_path / f"cells{suffix}"
    write_anndata(tiny_data[:5].copy(), path)
    before = listing(tmp_path)
    with pytest.raises(OutputExistsError, match=f"cells{suffix} exists; .*--overwrite"):
        write_anndata(tiny_data, path)
    assert listing(tmp_path) == before
    write_anndata(tiny_data, path, overwrite=True)
    assert read_anndata(path).n_obs == tiny_data.n_obs
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("failure", [OSError("the disk is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tiny_data, tmp_path, monkeypatch, suffix, failure):
    path = tmp_path / f"cells{suffix}"
    write_anndata(tiny_data, path)
    before = listing(tmp_path)

    def half_written(self: anndata.AnnData, target: Path, **_: object) -> None:
        target.write_bytes(b"half of a file")
        raise failure

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", half_written)
    monkeypatch.setattr(anndata.AnnData, "write_zarr", half_written)
    with pytest.raises(type(failure)):
        write_anndata(tiny_data, path, overwrite=True)
    assert listing(tmp_path) == before


def opened(path: Path) -> anndata.AnnData:
    """In memory, what ``open_anndata`` opens."""
    with open_anndata(path) as cells:
        return cells.to_memory()


@pytest.mark.parametrize("read", [read_anndata, opened])
def test_a_file_that_cannot_be_read_says_why(tmp_path, tiny_data, read):
    with pytest.raises(DataError, match=r"there\.h5ad does not exist"):
        read(tmp_path / "there.h5ad")
    with pytest.raises(DataError, match=r"ends in '\.csv'; AnnData files end in \.h5ad or \.zarr"):
        read(tmp_path / "cells.csv")
    with pytest.raises(DataError, match=r"ends in '\.csv'"):
        write_anndata(tiny_data, tmp_path / "cells.csv")
    write_anndata(tiny_data, tmp_path / "cells.h5ad")
    whole = (tmp_path / "cells.h5ad").read_bytes()
    (tmp_path / "cells.h5ad").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cells\.h5ad cannot be read as AnnData"):
        read(tmp_path / "cells.h5ad")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_open_until_its_cells_were_picked(tiny_data, tmp_path, suffix):
    path = tmp_path / f"cells{suffix}"
    write_anndata(tiny_data, path)
    with open_anndata(path) as cells:
        assert cells.isbacked == (suffix == ".h5ad")
        np.testing.assert_array_equal(cells[[3, 5]].X.toarray(), tiny_data.X[[3, 5]].toarray())
    assert not cells.file.is_open
    with open_anndata(tiny_data) as cells:
        assert cells is tiny_data


def test_a_view_of_a_backed_anndata_is_read(tiny_data, tmp_path):
    """AnnData itself takes no cells of it."""
    write_anndata(tiny_data, tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with open_anndata(backed[10:20]) as cells:
        np.testing.assert_array_equal(cells[[3, 5]].X.toarray(), tiny_data.X[[13, 15]].toarray())
    backed.file.close()


@pytest.mark.parametrize("part", ["X/indices", "X/indptr", "shape", "data"])
def test_a_file_with_a_damaged_matrix_is_named_when_it_is_opened(tiny_data, tmp_path, part):
    path = tmp_path / "cells.h5ad"
    write_anndata(tiny_data, path)
    with h5py.File(path, "r+") as file:
        if part == "shape":
            del file["X"].attrs["shape"]
        elif part == "data":
            values = file["X/data"][:-5]
            del file["X/data"]
            file["X/data"] = values
        else:
            del file[part]
    with pytest.raises(DataError, match=r"cells\.h5ad cannot be read as AnnData"), open_anndata(path) as cells:
        raw_counts(cells[[3, 5]])


def test_cells_backed_by_a_file_are_taken_like_cells_in_memory(tiny_data, tmp_path, fitted_model):
    write_anndata(tiny_data, tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(fitted_model.embed(backed), fitted_model.embed(tiny_data))
    np.testing.assert_array_equal(fitted_model.embed(tmp_path / "cells.h5ad"), fitted_model.embed(tiny_data))
    backed.file.close()
