"""Fixtures shared by core's tests: small data and a small model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from latdiff_core import LatentDiffusion
from latdiff_core.cli import main
from latdiff_core.data import demo_data
from latdiff_core.evaluation import Evaluation, evaluate
from latdiff_core.testing import ComponentContract
from latdiff_denoisers import ResNetMLP, ResNetMLPConfig

TINY = {
    "autoencoder.latent_dim": 4,
    "autoencoder.encoder": {"kind": "mlp", "hidden": [16]},
    "autoencoder.decoder": {"kind": "negative_binomial", "hidden": [16]},
    "diffusion.denoiser": {"kind": "dit", "width": 16, "depth": 1, "heads": 2, "token_dim": 2},
    "diffusion.condition_width": 8,
    "diffusion.sampler.steps": 4,
    "training.accelerator": "cpu",
    "training.autoencoder": {"epochs": 3, "batch_size": 32},
    "training.diffusion": {"steps": 12, "checks": 3, "batch_size": 32},
}
"""Overrides that make the default recipe train in a second."""
CONDITIONS = ["cell_type", {"kind": "continuous", "key": "dose"}]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Before any model of the session is fitted: sums over two threads round otherwise."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_data() -> anndata.AnnData:
    """120 cells of three types x 20 genes, with a dose: what a model can be fitted on in a second."""
    rng = np.random.default_rng(0)
    types = np.repeat(["B", "NK", "T"], 40)
    profiles = rng.gamma(0.5, 4.0, size=(3, 20)) + 0.05
    counts = rng.poisson(profiles[np.unique(types, return_inverse=True)[1]] * rng.lognormal(0, 0.3, (120, 1)))
    counts[counts.sum(1) == 0, 0] = 1
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(types), "dose": rng.choice([0.0, 1.0, 10.0], 120)},
        index=[f"c{i}" for i in range(120)],
    )
    var = pd.DataFrame(index=[f"g{i}" for i in range(20)])
    return anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., LatentDiffusion]:
    """Makes an unfitted tiny model; further overrides by dotted path, other conditions by keyword."""

    def make(overrides: Mapping[str, Any] | None = None, conditions: Sequence[Any] = CONDITIONS) -> LatentDiffusion:
        return LatentDiffusion.from_recipe("default", conditions, {**deepcopy(TINY), **(overrides or {})})

    return make


@pytest.fixture
def tiny_overrides() -> dict[str, Any]:
    """What makes a recipe train in a second."""
    return deepcopy(TINY)


@pytest.fixture(scope="session")
def tiny_fit() -> list[str]:
    """The same as options of a command."""
    return [part for path, value in TINY.items() for part in ("--set", f"{path}={json.dumps(value)}")]


@pytest.fixture
def latdiff(monkeypatch, capsys):
    """Runs a command; gives its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latdiff", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def data_file(tiny_data, tmp_path) -> Path:
    path = tmp_path / "data.h5ad"
    tiny_data.write_h5ad(path)
    return path


@pytest.fixture
def run_folder(fitted_model, tmp_path) -> Path:
    fitted_model.save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def checks() -> Callable[[type[ComponentContract], Any], dict[str, Callable[[], None]]]:
    """Gives the tests of a contract on one config, by name, as a plugin author's subclass has them."""

    def of(contract: type[ComponentContract], config: Any) -> dict[str, Callable[[], None]]:
        subclass = type("TestOne", (contract,), {"config": config})()
        return {name: getattr(subclass, name) for name in dir(subclass) if name.startswith("test_")}

    return of


@pytest.fixture
def shared_weights(monkeypatch) -> dict[str, Any]:
    """Overrides for a denoiser two blocks of which are one, and a weight of which lies transposed."""
    build = ResNetMLPConfig.build

    def sharing(self: ResNetMLPConfig, **sizes: Any) -> ResNetMLP:
        network = build(self, **sizes)
        network.blocks[1] = network.blocks[0]
        network.embed.weight.data = network.embed.weight.data.t().contiguous().t()
        return network

    monkeypatch.setattr(ResNetMLPConfig, "build", sharing)
    return {"diffusion.denoiser": {"kind": "resnet_mlp", "width": 8, "depth": 2}}


@pytest.fixture
def tiny_model(make_model) -> LatentDiffusion:
    """An unfitted model on cell type and dose."""
    return make_model()


@pytest.fixture(scope="session")
def fitted_model(make_model, tiny_data) -> LatentDiffusion:
    """The same, fitted."""
    return make_model().fit(tiny_data, progress=False)


@pytest.fixture(scope="module")
def halves() -> tuple[anndata.AnnData, anndata.AnnData, anndata.AnnData]:
    """Training, held-out and further real cells that stand for a perfect generator."""
    pbmcs = demo_data()
    order = np.random.default_rng(0).permutation(pbmcs.n_obs)
    return tuple(pbmcs[part].copy() for part in np.split(order, [300, 500]))


@pytest.fixture(scope="module")
def perfect(halves) -> Evaluation:
    """Of real cells that play the generated ones."""
    train, held_out, further = halves
    return evaluate(held_out, further, train, ["cell_type"], splits=4)


@pytest.fixture
def quick(monkeypatch):
    """Evaluation without forests and without a map: for what does not depend on them."""
    monkeypatch.setattr("latdiff_core.evaluation.metrics.two_sample.TREES", 2)
    monkeypatch.setattr("latdiff_core.evaluation.figures._umap", lambda points, seed: points[:, :2])
