"""Counts that stay on disk: read as they are in memory, refused with the same words, and fitted on."""

from __future__ import annotations

import signal
import tracemalloc
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import torch
from scipy import sparse

from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.data import gene_statistics, open_counts, raw_counts, read_through
from latdiff_core.errors import DataError, RunFolderError, TrainingInterrupted
from latdiff_core.schema import DataSchema
from latdiff_core.training.batches import CellData
from latdiff_core.training.block_shuffle import BlockShuffled, BufferedCells
from latdiff_core.training.modules import AutoencoderStage

SUFFIXES = [".h5ad", ".zarr"]
FORMS = [np.asarray, sparse.csr_matrix]


def random_cells(cells: int = 9000, genes: int = 12, form=sparse.csr_matrix, dtype=np.float32) -> anndata.AnnData:
    """More cells than are read at a time, sorted by what they have most of."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(rng.gamma(0.4, 3.0, size=(cells, genes)))
    counts[np.arange(cells), np.arange(cells) * genes // cells] += 5
    data = anndata.AnnData(form(counts.astype(dtype)))
    data.obs_names = [f"c{i}" for i in range(cells)]
    data.var_names = [f"g{j}" for j in range(genes)]
    return data


def write(data: anndata.AnnData, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data.write_h5ad(path) if path.suffix == ".h5ad" else data.write_zarr(path)
    return path


def nothing_said(data: anndata.AnnData) -> tuple[DataSchema, Annotations]:
    schema = DataSchema(genes=tuple(data.var_names), attributes=(), cells=data.n_obs)
    return schema, Annotations(Conditions((), data.n_obs), Conditions((), data.n_obs))


def read_all(path: Path, layer: str | None = None) -> None:
    with open_counts(path, layer, [], on_disk=True) as (cells, counts):
        read_through(counts, *nothing_said(cells))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16, np.float16])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_cells_in_any_order_are_those_in_memory(tmp_path, suffix, form, dtype):
    data = random_cells(500, form=np.asarray if dtype == np.float16 else form, dtype=dtype)
    whole = raw_counts(data)
    rng = np.random.default_rng(2)
    with open_counts(write(data, tmp_path / f"cells{suffix}"), None, [], on_disk=True) as (cells, counts):
        assert cells.X is None
        assert counts.shape == (500, 12)
        for wanted in (np.arange(500), rng.permutation(500), rng.integers(500, size=40), np.array([499, 0, 250])):
            found = counts[wanted]
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found.toarray(), whole[wanted].toarray())
            assert (found.data != 0).all()


def test_entries_stored_twice_are_one_count_on_disk_too(tmp_path):
    twice = sparse.csr_matrix((np.array([1.5, 0.5, 0.0, 3.0]), np.array([0, 0, 1, 2]), np.array([0, 3, 4])), (2, 3))
    with open_counts(write(anndata.AnnData(twice), tmp_path / "cells.h5ad"), None, [], on_disk=True) as (_, counts):
        found = counts[np.arange(2)]
    np.testing.assert_array_equal(found.toarray(), [[2, 0, 0], [0, 0, 3]])
    assert found.nnz == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_found_in_one_reading_is_what_is_found_in_memory(tmp_path, suffix):
    data = random_cells()
    train = np.flatnonzero(np.random.default_rng(3).random(data.n_obs) < 0.9)
    with open_counts(write(data, tmp_path / f"cells{suffix}"), None, [], on_disk=True) as (cells, counts):
        reading = read_through(counts, *nothing_said(cells))
        statistics = gene_statistics(counts, train)
    whole = raw_counts(data)
    assert reading.fingerprint == read_through(whole, *nothing_said(data)).fingerprint
    assert torch.equal(reading.library, torch.as_tensor(whole.sum(1)).flatten())
    expected = gene_statistics(whole[train])
    assert torch.equal(statistics.fraction, expected.fraction)
    assert torch.equal(statistics.theta, expected.theta)
    assert statistics.log_library == expected.log_library
    assert torch.equal(statistics.components.loadings, expected.components.loadings)


def test_the_fingerprint_knows_every_count_gene_and_place(tmp_path):
    data = random_cells(50)
    seen = {read_through(raw_counts(data), *nothing_said(data)).fingerprint}
    for change in ("value", "place", "names"):
        other = data.copy()
        if change == "value":
            other.X.data[3] += 1
        elif change == "place":
            other.X = other.X[::-1].tocsr()
        else:
            other.var_names = [*other.var_names[:-1], "other"]
        seen.add(read_through(raw_counts(other), *nothing_said(other)).fingerprint)
    assert len(seen) == 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, r"X holds 1\.5 at cell 'c8765', gene 'g3' \(at least 1 in all\); raw integer counts .*known: counts"),
        (-2.0, "X holds -2.0 at cell 'c8765', gene 'g3' .*cannot be negative"),
        (np.nan, "X holds nan at cell 'c8765', gene 'g3' .*must be finite"),
        (2.0**25, "at cell 'c8765', gene 'g3' .*up to 16,777,216"),
    ],
)
def test_a_value_deep_in_the_file_is_refused_by_cell_and_gene(tmp_path, suffix, form, value, message):
    data = random_cells(form=np.asarray)
    data.layers["counts"] = data.X.copy()
    data.X[8765, 3] = value
    data.X = form(data.X)
    path = write(data, tmp_path / f"cells{suffix}")
    with pytest.raises(DataError, match=message):
        read_all(path)
    read_all(path, "counts")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_cell_deep_in_the_file_is_refused_by_name(tmp_path, suffix):
    data = random_cells(form=np.asarray)
    data.X[8765] = 0
    data.X = sparse.csr_matrix(data.X)
    with pytest.raises(DataError, match=r"at least 1 cells have no counts in X, e\.g\. c8765; remove"):
        read_all(write(data, tmp_path / f"cells{suffix}"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_matrix_that_cannot_be_read_by_cells_is_refused_with_what_to_do(tmp_path, suffix):
    data = random_cells(50)
    data.layers["by_gene"] = data.X.tocsc()
    path = write(data, tmp_path / f"cells{suffix}")
    with pytest.raises(DataError, match=r"layer 'by_gene' in .* is stored as csc_matrix, .*tocsr\(\)"):
        read_all(path, "by_gene")
    with pytest.raises(DataError, match="there is no layer 'by_gen'; did you mean 'by_gene'"):
        read_all(path, "by_gen")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_refused_without_a_look_at_values_is_refused_on_disk_too(tmp_path, suffix):
    without = write(anndata.AnnData(layers={"counts": random_cells(20).X}), tmp_path / f"without{suffix}")
    with pytest.raises(DataError, match=r"X is empty; name the layer of raw counts \(known: counts\)"):
        read_all(without)
    twice = random_cells(20)
    twice.var_names = ["g0", "g0", *twice.var_names[2:]]
    with pytest.raises(DataError, match=r"1 gene names occur more than once, e\.g\. g0;"):
        read_all(write(twice, tmp_path / f"twice{suffix}"))
    with pytest.raises(DataError, match="does not exist"):
        read_all(tmp_path / f"missing{suffix}")
    (tmp_path / f"text{suffix}").write_text("not a file of cells")
    with pytest.raises(DataError, match="cannot be read as AnnData"):
        read_all(tmp_path / f"text{suffix}")


def test_cells_in_memory_cannot_be_read_on_disk(tiny_data):
    with pytest.raises(DataError, match="on_disk needs the path"), open_counts(tiny_data, None, [], on_disk=True):
        pass


def test_the_file_is_closed_afterwards_and_was_only_read(make_model, tiny_data, tmp_path):
    path = write(tiny_data, tmp_path / "cells.h5ad")
    before = path.read_bytes()
    make_model().fit(path, on_disk=True, progress=False)
    assert path.read_bytes() == before
    with h5py.File(path, "r+"):
        pass


@pytest.mark.parametrize("fraction", [0.1, 0.0])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_fitted_on_disk_knows_what_one_fitted_in_memory_knows(
    make_model, fitted_model, tiny_data, tmp_path, suffix, fraction
):
    path = write(tiny_data, tmp_path / f"cells{suffix}")
    model = make_model({"training.validation_fraction": fraction}).fit(path, on_disk=True, progress=False)
    ours, theirs = model.fitted, fitted_model.fitted
    assert ours.schema == theirs.schema
    assert ours.provenance["data"] == theirs.provenance["data"]
    assert torch.equal(ours.training_cells.library, theirs.training_cells.library)
    assert len(ours.history["autoencoder"]) == 3
    assert model.generate(20, {"cell_type": "NK"}).X.sum() > 0
    np.testing.assert_array_equal(model.embed(path), model.embed(tiny_data))


def test_a_backed_anndata_is_read_on_disk_and_a_view_of_one_in_memory(make_model, tiny_data, tmp_path):
    backed = anndata.read_h5ad(write(tiny_data, tmp_path / "cells.h5ad"), backed="r")
    on_disk = make_model().fit(backed, progress=False).fitted
    with open_counts(backed, None, [], on_disk=False) as (_, counts):
        assert not sparse.issparse(counts)
    with open_counts(backed[:50], None, [], on_disk=False) as (cells, counts):
        assert sparse.issparse(counts)
        assert cells.n_obs == 50
    path = make_model().fit(tmp_path / "cells.h5ad", on_disk=True, progress=False).fitted
    assert all(map(torch.equal, on_disk.autoencoder.state_dict().values(), path.autoencoder.state_dict().values()))
    backed.file.close()


@pytest.fixture
def _interrupt_signal():
    """Gives Ctrl-C its handler back, whatever a test does to it."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("_interrupt_signal")
def test_an_interrupted_fit_on_disk_resumes_to_the_uninterrupted_weights(make_model, tiny_data, tmp_path, monkeypatch):
    path, folder, step = (
        write(tiny_data, tmp_path / "cells.h5ad"),
        tmp_path / "checkpoints",
        AutoencoderStage.training_step,
    )

    def interrupted(self, batch, index):
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, batch, index)

    whole = make_model().fit(path, on_disk=True, progress=False).fitted
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderStage, "training_step", interrupted)
        with pytest.raises(TrainingInterrupted):
            make_model().fit(path, on_disk=True, checkpoints=folder, progress=False)
    with pytest.raises(RunFolderError, match="another way of reading"):
        make_model().fit(path, checkpoints=folder, resume=True, progress=False)
    resumed = make_model().fit(path, on_disk=True, checkpoints=folder, resume=True, progress=False).fitted
    for network in ("autoencoder", "diffusion"):
        ours, theirs = (getattr(fitted, network).state_dict() for fitted in (resumed, whole))
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_epoch_holds_a_buffer_of_the_counts_and_never_all(tmp_path, suffix):
    data = random_cells(40_000, genes=100)
    path, size = write(data, tmp_path / f"cells{suffix}"), 8 * data.X.nnz
    with open_counts(path, None, [], on_disk=True) as (cells, counts):
        schema, annotations = nothing_said(cells)
        buffered = BufferedCells(CellData(counts, annotations, schema))
        tracemalloc.start()
        try:
            read = sum(len(buffered[batch]) for batch in BlockShuffled(np.arange(40_000), 100, seed=0, buffer=1000))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert read == 40_000
    # A stored chunk is unpacked whole, and zarr's are large parts of so small a matrix.
    assert peak < size * {".h5ad": 1 / 3, ".zarr": 1 / 2}[suffix]
