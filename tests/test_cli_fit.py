"""``latdiff fit`` and its checkpoints, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

from latdiff_core.configs import dump_config, recipe_config
from latdiff_core.paths import worked_in_alone
from latdiff_core.run_folder import FORMAT


def test_ctrl_c_leaves_a_checkpoint_and_resuming_finishes(data_file, tmp_path, tiny_fit):
    """A real process, a real signal: the message says how to go on, and going on gives the run folder."""
    run, checkpoints = tmp_path / "run", tmp_path / "run.checkpoints"
    epochs = ["--set", "training.autoencoder.epochs=100"]
    command = [sys.executable, "-m", "latdiff_core.cli", "fit", str(data_file), "--out", str(run), *tiny_fit, *epochs]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    attentive = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whatever started the tests may ignore it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=attentive)
    deadline = time.monotonic() + 120
    while not (checkpoints / "autoencoder" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--resume" in err
    assert str(checkpoints) in err
    assert not run.exists()
    finished = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert (run / "manifest.json").exists()
    assert not checkpoints.exists()


def test_overwrite_begins_anew_where_an_interrupted_fit_was(latdiff, data_file, tmp_path, tiny_fit):
    stale = tmp_path / "run.checkpoints"
    stale.mkdir()
    (stale / "run.json").write_text("{}")
    fit = ("fit", data_file, "--out", tmp_path / "run", *tiny_fit)
    assert latdiff(*fit)[0] == 1
    with worked_in_alone(stale):  # as by a fit that runs
        code, _, error = latdiff(*fit, "--overwrite")
    assert code == 1
    assert "another process works in" in " ".join(error.split())
    assert (stale / "run.json").exists()
    assert latdiff(*fit, "--overwrite")[0] == 0


def test_what_is_not_checkpoints_is_not_removed(latdiff, data_file, tmp_path, tiny_fit):
    foreign = tmp_path / "run.checkpoints" / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("precious")
    for options in ((), ("--overwrite",)):
        code, _, error = latdiff("fit", data_file, "--out", tmp_path / "run", *tiny_fit, *options)
        assert code == 1
        assert "is in the way" in error
        assert foreign.read_text() == "precious"


def test_a_fit_that_diverged_can_be_begun_anew_and_a_finished_one_not_resumed(latdiff, data_file, tmp_path, tiny_fit):
    fit = ("fit", data_file, "--out", tmp_path / "run", *tiny_fit)
    code, _, error = latdiff(*fit, "--set", "training.diffusion.learning_rate=1e30")
    assert code == 1
    assert "diverged" in error
    assert latdiff(*fit)[0] == 0
    code, _, error = latdiff(*fit, "--resume")
    assert code == 1
    assert "nothing to resume" in error


def test_another_config_is_not_resumed_and_its_fields_are_named(latdiff, data_file, tmp_path):
    stale = tmp_path / "run.checkpoints"
    stale.mkdir()
    config = dump_config(recipe_config("default", ["cell_type"], {"autoencoder.latent_dim": 3}))
    (stale / "run.json").write_text(json.dumps({"format": FORMAT, "config": config}))
    options = ("--condition", "cell_type", "--set", "autoencoder.latent_dim=4", "--resume")
    code, _, error = latdiff("fit", data_file, "--out", tmp_path / "run", *options)
    assert code == 1
    assert "begun with another config (autoencoder.latent_dim)" in " ".join(error.split())
