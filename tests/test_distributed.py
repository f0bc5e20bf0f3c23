"""Several processes that train together, by the command line and Lightning's strategies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latdiff_core import LatentDiffusion
from latdiff_core.configs import dump_config
from latdiff_core.errors import ConfigError
from latdiff_core.ranks import batch_share, is_first, rank_and_world

LATDIFF = [sys.executable, "-m", "latdiff_core.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *LATDIFF[1:]]
EXACT = {
    "autoencoder.encoder.dropout": 0.0,
    "autoencoder.decoder.dropout": 0.0,
    "training.autoencoder": {"epochs": 8, "batch_size": 27, "learning_rate": 3e-3},  # 108 cells: 4 equal batches
    "training.diffusion": {"steps": 60, "checks": 3, "batch_size": 64, "learning_rate": 3e-3},
}


@pytest.mark.parametrize(
    ("launcher", "strategy", "conditions"),
    [(LATDIFF, "ddp", ["cell_type"]), (TORCHRUN, "ddp", []), (LATDIFF, "ddp_fork", ["cell_type"])],
)
def test_two_processes_give_the_loss_curve_of_one(make_model, tiny_data, tmp_path, launcher, strategy, conditions):
    """`fit --devices 2 --strategy ddp` (gloo): the same global batch, shared out, and one run folder at the end."""
    single = make_model(EXACT, conditions)
    data, config, out = tmp_path / "cells.h5ad", tmp_path / "config.yaml", tmp_path / "run"
    tiny_data.write_h5ad(data)
    config.write_text(dump_config(single.config))
    command = [*launcher, "fit", str(data), "--config", str(config), "--out", str(out)]
    done = subprocess.run(
        [*command, "--devices", "2", "--strategy", strategy],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model written to") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "config.yaml", "run"]
    shared, alone = LatentDiffusion.load(out), single.fit(tiny_data, progress=False)
    # Two processes draw other noise than one, which 12 validation cells show: by 1 to 5 % in stage 2, of five seeds.
    for stage, metric, tolerance in (("autoencoder", "val_loss", 0.01), ("diffusion", "val_loss", 0.06)):
        ours, theirs = (
            np.array([row[metric] for row in model.fitted.history[stage]], dtype=float) for model in (shared, alone)
        )
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance)
        assert ours[-1] < ours[0]
    assert shared.generate(5, dict.fromkeys(conditions, "B")).n_obs == 5


SCRIPT = """
from anndata import read_h5ad
from latdiff_core import LatentDiffusion

if __name__ == "__main__":
    LatentDiffusion.from_config("config.yaml").fit("cells.h5ad", checkpoints="kept", progress=False).save("run")
    LatentDiffusion.load("run").generate_to("made.h5ad", 40)
    print("made", read_h5ad("made.h5ad").n_obs, flush=True)
"""


def test_a_script_that_trains_in_two_processes_goes_on_after_it(make_model, tiny_data, tmp_path):
    """Lightning's launcher runs the script twice; a process that fails would take the other with it."""
    tiny_data.write_h5ad(tmp_path / "cells.h5ad")
    overrides = {"training.devices": 2, "training.strategy": "ddp"}
    (tmp_path / "config.yaml").write_text(dump_config(make_model(overrides, ["cell_type"]).config))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("made 40") == 2


def test_other_machines_need_a_launcher(make_model, tiny_data, tmp_path):
    model = make_model({"training.nodes": 2, "training.strategy": "ddp"})
    with pytest.raises(ConfigError, match="nodes is 2, but this process was started alone"):
        model.fit(tiny_data, checkpoints=tmp_path / "run", progress=False)


def test_several_processes_need_a_folder_that_all_of_them_reach(make_model, tiny_data):
    with pytest.raises(ConfigError, match="give a folder"):
        make_model({"training.devices": 2}).fit(tiny_data, progress=False)


def test_processes_that_would_train_on_their_own_are_refused(make_model, tiny_data, monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started together, but training -> devices x nodes is 1"):
        make_model().fit(tiny_data, checkpoints=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_shares_are_disjoint_and_complete(monkeypatch):
    """A batch with fewer cells than processes goes to all of them: none may be left without."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda number=number: number)
        shares.append(batch_share(list(range(10))))
        assert batch_share([7]) == [7]
    assert sorted(cell for share in shares for cell in share) == list(range(10))
    assert {len(share) for share in shares} == {3, 4}


@pytest.mark.parametrize(
    ("environment", "found", "first"),
    [
        ({}, (0, 1), True),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, (3, 4), False),
        ({"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, (0, 4), True),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "5"}, (2, 5), False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1), True),
        ({"LOCAL_RANK": "1"}, (0, 1), False),
    ],
    ids=["alone", "torchrun", "torchrun's first", "srun", "a batch script without srun", "Lightning's child"],
)
def test_the_launcher_says_which_process_this_is(monkeypatch, environment, found, first):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world() == found
    assert is_first() is first


def test_the_first_process_writes_the_run_folder(fitted_model, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("LOCAL_RANK", "1")
    fitted_model.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
