"""The Python door: fit, generate, embed, save, load."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from latdiff_core import LatentDiffusion
from latdiff_core.configs import dump_config
from latdiff_core.errors import ConfigError, LatdiffError
from latdiff_core.evaluation import evaluate


def test_generated_cells_are_integer_counts_with_the_asked_conditions(fitted_model, tiny_data):
    cells = fitted_model.generate(30, {"cell_type": "NK", "dose": 1.0})
    assert sparse.isspmatrix_csr(cells.X)
    assert cells.X.dtype.kind == "i"
    assert cells.X.min() >= 0
    assert set(cells.obs["cell_type"]) == {"NK"}
    assert list(cells.var_names) == list(tiny_data.var_names)


def test_a_table_asks_for_each_cell(fitted_model):
    table = pd.DataFrame({"cell_type": ["B", "T", "NK"], "dose": [0.0, 10.0, 1.0]})
    cells = fitted_model.generate(conditions=table)
    assert list(cells.obs["cell_type"]) == ["B", "T", "NK"]
    assert list(cells.obs["dose"]) == [0.0, 10.0, 1.0]


def test_a_loaded_model_generates_the_same_cells(fitted_model, tmp_path):
    fitted_model.save(tmp_path / "run")
    loaded = LatentDiffusion.load(tmp_path / "run")
    ours, theirs = fitted_model.generate(20, seed=3), loaded.generate(20, seed=3)
    assert (ours.X != theirs.X).nnz == 0
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)


def test_embedding_matches_genes_by_name(fitted_model, tiny_data):
    shuffled = tiny_data[:, ::-1].copy()
    np.testing.assert_allclose(fitted_model.embed(shuffled), fitted_model.embed(tiny_data), atol=1e-6)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, run: model.generate(3),
        lambda model, run: model.generate(3, overrides={"diffusion.sampler.steps": 2}),
        lambda model, run: model.generate(3, {"cell_type": "B"}, mean=True, library=100),
        lambda model, run: LatentDiffusion.load(run),
    ],
    ids=["generate", "generate with overrides", "generate expectations", "load"],
)
def test_using_a_model_leaves_the_users_random_states_alone(fitted_model, tmp_path, use):
    fitted_model.save(tmp_path / "run")
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    use(fitted_model, tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before


def test_parts_that_do_not_fit_are_refused_before_any_data_is_read(make_model, tmp_path):
    model = make_model({"diffusion.denoiser.token_dim": 64, "diffusion.denoiser.width": 64})
    with pytest.raises(ConfigError, match="diffusion -> denoiser: token_dim 64"):
        model.fit(tmp_path / "there_is_no_such_file.h5ad")


def test_a_config_can_be_an_object_a_mapping_or_a_file(tiny_model, tmp_path):
    config = tiny_model.config
    (tmp_path / "model.yaml").write_text(dump_config(config))
    for given in (config, config.model_dump(mode="json"), tmp_path / "model.yaml", str(tmp_path / "model.yaml")):
        assert LatentDiffusion.from_config(given).config == config
        changed = LatentDiffusion.from_config(given, {"autoencoder.latent_dim": 6}).config
        assert changed.autoencoder.latent_dim == 6


def test_the_founding_system_goes_the_whole_road_at_a_small_size(tiny_overrides, tiny_data, tmp_path):
    """ZINB, linear betas, epsilon prediction, DDIM: fitted, saved, loaded, generated with guidance."""
    kept = (
        "training.",
        "autoencoder.latent_dim",
        "autoencoder.encoder",
        "diffusion.denoiser",
        "diffusion.condition_width",
    )
    small = {path: value for path, value in tiny_overrides.items() if path.startswith(kept)}
    small |= {"autoencoder.decoder.hidden": [16], "training.diffusion": {"steps": 300, "checks": 3, "batch_size": 64}}
    model = LatentDiffusion.from_recipe("foundations", ["cell_type"], small).fit(tiny_data, progress=False)
    model.save(tmp_path / "run")
    loaded = LatentDiffusion.load(tmp_path / "run")
    assert loaded.config.autoencoder.decoder.kind == "zero_inflated_negative_binomial"
    assert loaded.config.diffusion.sampler.kind == "ddim"
    cells = loaded.generate(40, {"cell_type": "T"}, overrides={"diffusion.guidance.scale": 1.5})
    assert cells.X.dtype.kind == "i"
    assert cells.X.min() >= 0
    assert cells.X.sum() > 0


def test_a_schedule_that_keeps_its_signal_is_refused_before_training(make_model, tiny_data):
    """Sampling starts from noise alone: from another start than training ended at, if a signal is left there."""
    model = make_model({"diffusion.schedule": {"kind": "linear", "beta_end": 0.0002}})
    with pytest.raises(LatdiffError, match=r"diffusion -> schedule: 'linear' ends with a signal of 0\.9"):
        model.fit(tiny_data)


def test_values_that_are_no_counts_are_labelled_and_evaluated_without_library_sizes(
    make_model, tiny_data, caplog, quick
):
    model = make_model({"autoencoder.decoder": {"kind": "gaussian", "hidden": [16]}}).fit(tiny_data, progress=False)
    cells = model.generate(60, seed=1)
    assert cells.uns["latdiff"]["expression"] == "log_normalised"
    assert "generates no counts" in caplog.text
    found = evaluate(tiny_data, cells, tiny_data, splits=2)
    assert found.table.loc["library_median", "standing"] == "unknown"
    assert found.table.loc["w2", "standing"] != "unknown"
