"""The named recipes."""

from __future__ import annotations

import pytest
import yaml

from latdiff_core.assembly import build_autoencoder, build_diffusion
from latdiff_core.configs import dump_config, load_config, recipe_config
from latdiff_core.errors import ConfigError
from latdiff_core.registry import current_registry
from latdiff_core.schema import CategoricalAttribute, DataSchema
from latdiff_standard.plugin import latdiff_recipes

RECIPES = sorted(latdiff_recipes())


def _schema(genes: int) -> DataSchema:
    return DataSchema(
        genes=tuple(f"g{i}" for i in range(genes)),
        attributes=(CategoricalAttribute(key="cell_type", categories=("B", "T"), shares=(0.5, 0.5)),),
        cells=100,
    )


def test_the_recipes_are_the_files_and_are_installed():
    assert RECIPES == ["cfgen_like", "default", "foundations", "scdiffusion_like", "scldm_like"]
    assert set(RECIPES) <= set(current_registry().recipes)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_loads_and_survives_dumping(name):
    config = recipe_config(name, ["cell_type"])
    assert config.description.endswith(".")
    assert load_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize("name", RECIPES)
def test_the_parts_of_a_recipe_fit_each_other(name):
    config = recipe_config(name, ["cell_type"])
    assert build_autoencoder(config, _schema(20)).latent_dim == config.autoencoder.latent_dim
    joint = config.diffusion.library == "joint"
    assert build_diffusion(config, _schema(20)).dim == config.autoencoder.latent_dim + joint


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("_like")])
def test_what_follows_a_published_system_says_from_where_and_how_it_differs(name):
    notes = recipe_config(name).notes
    assert "arXiv" in notes[0] or "Bioinformatics" in notes[1]
    assert sum("riginal" in note and "ours" in note for note in notes) >= 4
    assert all(note.endswith(".") for note in notes)


def test_foundations_has_the_sizes_of_the_founding_document():
    config = recipe_config("foundations")
    autoencoder, diffusion = config.autoencoder, config.diffusion
    assert autoencoder.latent_dim == 256
    assert autoencoder.encoder.hidden == (2048, 1024, 512)
    assert autoencoder.decoder.hidden == (512, 1024, 2048)
    assert autoencoder.encoder.dropout == autoencoder.decoder.dropout == 0.1
    assert autoencoder.decoder.kind == "zero_inflated_negative_binomial"
    assert (diffusion.denoiser.width, diffusion.denoiser.depth, diffusion.denoiser.heads) == (512, 12, 8)
    assert (diffusion.schedule.kind, diffusion.schedule.beta_start, diffusion.schedule.beta_end) == (
        "linear",
        1e-4,
        0.02,
    )
    assert diffusion.prediction == "epsilon"
    assert (diffusion.sampler.kind, diffusion.sampler.steps) == ("ddim", 50)
    assert diffusion.guidance.drop == 0.1


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_exaggerates_its_conditions(name):
    assert getattr(recipe_config(name).diffusion.guidance, "scale", 1.0) == 1.0


def test_a_wrong_size_in_a_recipe_is_reported_with_its_path():
    with pytest.raises(ConfigError, match=r"diffusion -> denoiser.*heads \(3\) must divide width \(512\)"):
        recipe_config("foundations", overrides={"diffusion.denoiser.heads": 3})
