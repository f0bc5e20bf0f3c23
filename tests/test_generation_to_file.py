"""Generation to a file: the cells of generation in memory, in parts that survive a kill and that processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError

from latdiff_core import LatentDiffusion
from latdiff_core.data import parts, write_anndata
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import DataError, GenerationInterrupted, LatdiffError, OutputExistsError
from latdiff_core.generation import BLOCK
from latdiff_core.generation_to_file import _await as wait

SUFFIXES = [".h5ad", ".zarr"]
CONDITIONS = ["cell_type", {"kind": "continuous", "key": "dose"}, {"kind": "vector", "key": "drug", "missing": "allow"}]
N = 2 * BLOCK + 100
TYPES = np.array(["B", "NK", "T"])
REQUESTS = {
    "nothing": {"n": N},
    "a setting": {"n": N, "conditions": {"cell_type": "NK", "drug": [0.0, 1.0, 2.0]}, "library": 300},
    "a table": {"conditions": pd.DataFrame({"cell_type": TYPES[np.arange(N) % 3], "dose": np.arange(N) % 5})},
    "expectations": {"n": BLOCK + 3, "mean": True, "seed": 5},
    "each its size": {"n": N, "library": np.arange(1, N + 1), "overrides": {"diffusion.sampler.steps": 2}},
    "no counts at all": {"n": 3, "library": 1e-9},
}


@pytest.fixture(scope="module")
def model(make_model, tiny_data) -> LatentDiffusion:
    """Fitted on a category, a number and a vector, with the batch as nuisance."""
    cells = tiny_data.copy()
    cells.obsm["drug"] = np.random.default_rng(0).normal(size=(4, 3))[np.arange(cells.n_obs) % 4]
    cells.obsm["drug"][:10] = np.nan
    cells.obs["batch"] = pd.Categorical(np.where(np.arange(cells.n_obs) % 2, "one", "two"))
    return make_model({"data.nuisance": ["batch"]}, CONDITIONS).fit(cells, progress=False)


class Sampled:
    """Counts the blocks that are sampled; ``failure``, where it is set, comes instead of the third one."""

    blocks = 0
    failure: BaseException | None = None


@pytest.fixture
def sampled(monkeypatch) -> Sampled:
    state, sample = Sampled(), Diffusion.sample

    def counted(self, *arguments):
        if state.failure is not None and state.blocks == 2:
            raise state.failure
        state.blocks += 1
        return sample(self, *arguments)

    monkeypatch.setattr(Diffusion, "sample", counted)
    return state


@pytest.fixture
def interrupted(model, tmp_path, sampled) -> Path:
    """An output of which two of three parts were made; from here on blocks are counted anew, and none fails."""
    sampled.failure = OSError("the disk is full")
    with pytest.raises(OSError, match="full"):
        model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)
    sampled.failure, sampled.blocks = None, 0
    return tmp_path / "cells.h5ad"


def read(path: Path) -> anndata.AnnData:
    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def assert_same(ours: anndata.AnnData, theirs: anndata.AnnData) -> None:
    """Equal in everything that generated cells have, types included."""
    assert ours.X.dtype == theirs.X.dtype
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(ours.X, name), getattr(theirs.X, name))
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    pd.testing.assert_frame_equal(ours.var, theirs.var)
    assert set(ours.obsm) == set(theirs.obsm)
    for key, array in theirs.obsm.items():
        assert ours.obsm[key].dtype == array.dtype
        np.testing.assert_array_equal(ours.obsm[key], array)
    assert ours.uns == theirs.uns


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("asked", REQUESTS.values(), ids=list(REQUESTS))
def test_the_file_is_that_of_generation_in_memory_and_nothing_else(model, tmp_path, suffix, asked):
    streamed, written = tmp_path / "new" / f"cells{suffix}", tmp_path / f"cells{suffix}"
    model.generate_to(streamed, **asked, chunk=BLOCK)
    write_anndata(model.generate(**asked), written)
    assert_same(read(streamed), read(written))
    assert names(tmp_path / "new") == [streamed.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_without_conditions_generates_to_a_file(make_model, tiny_data, tmp_path, suffix):
    model = make_model(conditions=()).fit(tiny_data, progress=False)
    model.generate_to(tmp_path / f"cells{suffix}", 600, chunk=BLOCK)
    assert (read(tmp_path / f"cells{suffix}").X != model.generate(600).X).nnz == 0


@pytest.mark.parametrize("chunk", [1, BLOCK + 1, 10**6])
def test_the_cells_do_not_depend_on_the_size_of_parts(model, tmp_path, chunk):
    model.generate_to(tmp_path / "cells.h5ad", N, chunk=chunk)
    model.generate_to(tmp_path / "others.h5ad", N, chunk=BLOCK)
    assert_same(read(tmp_path / "cells.h5ad"), read(tmp_path / "others.h5ad"))


def test_the_file_can_be_read_row_by_row(model, tmp_path):
    model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    rows = [0, BLOCK - 1, BLOCK, N - 1]
    assert (backed.X[rows] != model.generate(N).X[rows]).nnz == 0
    backed.file.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_an_error_leaves_is_taken_up_and_only_the_rest_is_made(model, tmp_path, sampled, suffix, caplog):
    path = tmp_path / f"cells{suffix}"
    sampled.failure = OSError("the disk is full")
    with pytest.raises(OSError, match="full"):
        model.generate_to(path, N, chunk=BLOCK)
    assert names(tmp_path) == [f"{path.name}.parts"]
    assert names(tmp_path / f"{path.name}.parts") == ["000000.safetensors", "000001.safetensors", "request.json"]
    sampled.failure, sampled.blocks = None, 0
    model.generate_to(path, N, chunk=BLOCK)
    assert sampled.blocks == 1
    assert "2 of 3 parts are in" in caplog.text
    assert names(tmp_path) == [path.name]
    write_anndata(model.generate(N), tmp_path / f"others{suffix}")
    assert_same(read(path), read(tmp_path / f"others{suffix}"))


def test_ctrl_c_says_how_to_go_on(model, tmp_path, sampled):
    sampled.failure = KeyboardInterrupt()
    with pytest.raises(GenerationInterrupted, match=r"2 of 3 parts are in .*parts\. To go on, repeat the same"):
        model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)


def test_an_error_before_the_first_part_leaves_nothing(model, tmp_path, sampled):
    sampled.failure = LatdiffError("wrong")
    with pytest.raises(LatdiffError, match="wrong"):
        model.generate_to(tmp_path / "cells.h5ad", N)
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_joining_that_fails_keeps_the_parts_and_the_old_file(model, tmp_path, monkeypatch, sampled, suffix):
    path = tmp_path / f"cells{suffix}"
    model.generate_to(path, 5, seed=1)
    before = read(path)

    def full(*arguments: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("latdiff_core.data.streaming._shifted", full)
        with pytest.raises(OSError, match="full"):
            model.generate_to(path, N, chunk=BLOCK, overwrite=True)
    assert_same(read(path), before)
    sampled.blocks = 0
    model.generate_to(path, N, chunk=BLOCK, overwrite=True)
    assert sampled.blocks == 0
    assert (read(path).X != model.generate(N).X).nnz == 0
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"n": N + 1}, "cells"),
        ({"mean": True}, "mean"),
        ({"library": 100}, "library"),
        ({"conditions": {"cell_type": "T"}}, "conditions"),
        ({"chunk": 2 * BLOCK}, "chunk"),
        ({"overrides": {"diffusion.sampler.steps": 3}}, "config"),
    ],
)
def test_parts_of_another_request_are_never_taken(model, tmp_path, interrupted, other, named):
    path, same = interrupted, {"n": N, "chunk": BLOCK}
    kept = names(tmp_path / "cells.h5ad.parts")
    with pytest.raises(
        OutputExistsError, match=rf"cells\.h5ad\.parts holds parts of another request \(another {named}\)"
    ):
        model.generate_to(path, **{**same, **other})
    assert names(tmp_path / "cells.h5ad.parts") == kept
    model.generate_to(path, **{**same, **other}, overwrite=True)
    asked = {key: value for key, value in {**same, **other}.items() if key != "chunk"}
    assert (read(path).X != model.generate(**asked).X).nnz == 0
    assert names(tmp_path) == ["cells.h5ad"]


def test_parts_of_another_model_are_never_taken(fitted_model, interrupted):
    with pytest.raises(OutputExistsError, match=r"another conditions, model"):
        fitted_model.generate_to(interrupted, N, chunk=BLOCK)


def test_a_process_that_asks_for_something_else_than_the_first_does_not_wait_for_ever(
    fitted_model, interrupted, monkeypatch
):
    monkeypatch.setattr(parts, "PATIENCE", 0.0)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OutputExistsError, match="the first process does not remove; ask all for the same"):
        fitted_model.generate_to(interrupted, N, chunk=BLOCK, seed=3, overwrite=True)


def test_a_folder_of_something_else_is_never_removed(model, tmp_path):
    (tmp_path / "cells.h5ad.parts").mkdir()
    (tmp_path / "cells.h5ad.parts" / "precious").write_text("mine")
    with pytest.raises(OutputExistsError, match="is in the way"):
        model.generate_to(tmp_path / "cells.h5ad", 5, overwrite=True)
    assert names(tmp_path / "cells.h5ad.parts") == ["precious"]


def test_a_damaged_part_is_named(model, tmp_path, interrupted):
    part = tmp_path / "cells.h5ad.parts" / "000001.safetensors"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000001\.safetensors is damaged .*; remove it"):
        model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)
    part.unlink()
    model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)
    assert names(tmp_path) == ["cells.h5ad"]


@pytest.mark.parametrize(
    ("name", "chunk", "message"), [("cells.csv", 512, "ends in '.csv'"), ("a.h5ad", 0, "chunk is 0")]
)
def test_an_impossible_file_is_refused_before_any_work(model, tmp_path, sampled, name, chunk, message):
    with pytest.raises(DataError, match=message):
        model.generate_to(tmp_path / name, 5, chunk=chunk)
    assert sampled.blocks == 0
    assert names(tmp_path) == []


def start(run: Path, out: Path, *options: object, **variables: str) -> subprocess.Popen:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "latdiff_core.cli", "generate", str(run), "--out", str(out), *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_killed_process_is_taken_up_by_the_same_command(model, tmp_path):
    model.save(tmp_path / "run")
    path = tmp_path / "out" / "cells.zarr"
    process = start(tmp_path / "run", path, "-n", 25_000)
    deadline = time.monotonic() + 120
    while not (parts := list(path.parent.glob("*.parts/*.safetensors"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert parts
    assert not path.exists()
    model = LatentDiffusion.load(tmp_path / "run")
    model.generate_to(path, 25_000)
    assert names(path.parent) == [path.name]
    assert (read(path).X != model.generate(25_000).X).nnz == 0


@pytest.mark.parametrize("launcher", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
def test_processes_share_the_parts_and_the_first_joins_them(model, tmp_path, monkeypatch, sampled, launcher):
    path, alone = tmp_path / "out" / "cells.h5ad", tmp_path / "alone.h5ad"
    model.generate_to(alone, N, chunk=BLOCK)
    sampled.blocks = 0
    monkeypatch.setenv(launcher[1], "2")
    for rank, made in (("1", 1), ("0", 3)):
        monkeypatch.setenv(launcher[0], rank)
        model.generate_to(path, N, chunk=BLOCK)
        assert sampled.blocks == made
    assert_same(read(path), read(alone))
    assert names(path.parent) == [path.name]
    for rank in ("1", "3"):
        monkeypatch.setenv(launcher[0], rank)
        model.generate_to(path, N, chunk=BLOCK)
    assert sampled.blocks == 3, "late processes, and those without a part, have nothing to do"
    assert model.generate(5).n_obs == 5, "memory is not shared"


def test_a_process_that_died_is_not_waited_for_for_ever(model, tmp_path, monkeypatch):
    """What the others made is kept, and one process alone goes on with it."""
    path, alone = tmp_path / "out" / "cells.h5ad", tmp_path / "alone.h5ad"
    model.generate_to(alone, N, chunk=BLOCK)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("latdiff_core.generation_to_file.PATIENCE", 0.0)
    with pytest.raises(GenerationInterrupted, match="to make some of the 1 that are missing seems to have died"):
        model.generate_to(path, N, chunk=BLOCK)
    monkeypatch.setenv("WORLD_SIZE", "1")
    model.generate_to(path, N, chunk=BLOCK)
    assert_same(read(path), read(alone))
    assert names(path.parent) == [path.name]


def test_two_processes_at_once_give_the_file_of_one(model, tmp_path):
    model.save(tmp_path / "run")
    path, alone = tmp_path / "out" / "cells.h5ad", tmp_path / "alone.h5ad"
    ranks = [start(tmp_path / "run", path, "-n", 25_000, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    said = [process.communicate(timeout=120) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    assert [f"25000 cells x 20 genes written to {path}" in out for out, _ in said] == [True, False]
    LatentDiffusion.load(tmp_path / "run").generate_to(alone, 25_000)
    assert_same(read(path), read(alone))
    assert names(path.parent) == [path.name]


def test_a_second_process_with_the_same_command_does_not_wait_for_ever(model, tmp_path, monkeypatch):
    """The first to end removes the parts of both."""
    monkeypatch.setattr(
        "latdiff_core.generation_to_file._await", lambda parts, mine: (parts.remove(), wait(parts, mine))
    )
    with pytest.raises(OutputExistsError, match="3 parts were made and are gone"):
        model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)
    assert not (tmp_path / "cells.h5ad").exists()


@pytest.mark.parametrize(("fails", "said"), [(False, "exists"), (True, "has become that of another request")])
def test_another_process_that_writes_the_same_file_is_noticed(model, tmp_path, monkeypatch, fails, said):
    """It began after this one had looked, and has ended, or has written a part, before this one writes its first."""
    path, sample, calls = tmp_path / "cells.h5ad", Diffusion.sample, []

    def with_another(self, *arguments):
        calls.append(0)
        if len(calls) == 1:
            with suppress(OSError):
                model.generate_to(path, N, seed=1, chunk=BLOCK)
        elif fails and len(calls) == 3:
            raise OSError("killed")
        return sample(self, *arguments)

    monkeypatch.setattr(Diffusion, "sample", with_another)
    with pytest.raises(OutputExistsError, match=said):
        model.generate_to(path, N, seed=0, chunk=BLOCK)
    monkeypatch.undo()
    model.generate_to(path, N, seed=1, chunk=BLOCK, overwrite=not fails)
    model.generate_to(tmp_path / "alone.h5ad", N, seed=1, chunk=BLOCK)
    assert_same(read(path), read(tmp_path / "alone.h5ad"))


def test_a_file_system_without_links_will_do(model, tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise PermissionError("links are not supported")

    monkeypatch.setattr(os, "link", none)
    model.generate_to(tmp_path / "cells.h5ad", 20)
    assert read(tmp_path / "cells.h5ad").n_obs == 20
    assert names(tmp_path) == ["cells.h5ad"]


def test_a_batch_script_that_asked_for_several_tasks_runs_alone(model, tmp_path, monkeypatch):
    """SLURM sets these two in the script itself, where no other process was started."""
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    model.generate_to(tmp_path / "cells.h5ad", N, chunk=BLOCK)
    assert read(tmp_path / "cells.h5ad").n_obs == N


def test_a_full_disk_is_an_error_of_the_system(fitted_model, tmp_path, monkeypatch):
    """The command line then says so without a traceback; safetensors' own error is no OSError."""

    def full(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(parts, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        fitted_model.generate_to(tmp_path / "cells.h5ad", 20)


def test_a_column_that_zarr_cannot_hold_is_refused_before_any_cell_is_made(make_model, tiny_data, tmp_path):
    cells = tiny_data.copy()
    cells.obs["x/y"] = cells.obs["cell_type"]
    model = make_model(conditions=["x/y"]).fit(cells, progress=False)
    with pytest.raises(DataError, match=r"column called 'x/y', for its slash; write an \.h5ad"):
        model.generate_to(tmp_path / "cells.zarr", 20)
    assert names(tmp_path) == []
