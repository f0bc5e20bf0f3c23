"""Configs: error paths, round trips, overrides, JSON Schema, descriptions."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from latdiff_core.configs import (
    ModelConfig,
    apply_overrides,
    config_schema,
    dump_config,
    load_config,
    parse_override,
    read_config,
    recipe_config,
)
from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import INTERFACES
from latdiff_core.registry import installed

RECIPES = list(installed().recipes)
PROBLEMS = [
    (
        {"diffusion.denoiser": {"kind": "dit", "heads": "many"}},
        "diffusion -> denoiser -> heads: Input should be a valid integer",
    ),
    ({"diffusion.denoiser": {"kind": "dit", "heads": 3}}, r"diffusion -> denoiser: heads \(3\) must divide width"),
    ({"diffusion.denoiser.widht": 64}, "diffusion -> denoiser -> widht: there is no such field; did you mean 'widths'"),
    ({"diffusion.denoiser": "dot"}, "diffusion -> denoiser: no denoiser is called 'dot'; did you mean 'dit'"),
    ({"diffusion.denoiser": {"width": 64}}, "diffusion -> denoiser: give a kind .*known: .*dit"),
    ({"diffusion.denoiser": None}, "diffusion -> denoiser: give a kind"),
    ({"diffusion.prediction": "noise"}, "diffusion -> prediction: .*'epsilon', 'clean', 'v' or 'flow'"),
    ({"autoencoder.encoder.hidden.0": -1}, "autoencoder -> encoder -> hidden -> 0: .*greater than 0"),
    (
        {"diffusion.denoiser.kind": "dit"},
        r"diffusion -> denoiser -> widths: there is no such field; .*\. Set diffusion.denoiser.kind to unet, which "
        "has it, or set diffusion.denoiser=dit for dit with its own fields",
    ),
    (
        {"diffusion.sampler.eta": 0.5},
        r"diffusion -> sampler -> eta: there is no such field; .*\. Set diffusion.sampler.kind to ddim",
    ),
    ({"autoencoder.latent_dims": 8}, "autoencoder -> latent_dims: there is no such field; did you mean 'latent_dim'"),
    ({"training.diffusion.step": 8}, "training -> diffusion -> step: there is no such field; did you mean 'steps'"),
    ({"training.diffusion.learning_rate": float("inf")}, "training -> diffusion -> learning_rate: .*finite"),
    ({"diffusion.guidance.scale": float("inf")}, "diffusion -> guidance -> scale: .*finite"),
    ({"trainning": {}}, "trainning: there is no such field; did you mean 'training'"),
    (
        {"data.conditions": [{"kind": "categorical", "key": "a", "mising": "allow"}]},
        "data -> conditions -> 0 -> mising: there is no such field; did you mean 'missing'",
    ),
    ({"data.conditions": [{"kind": "continuous"}]}, "data -> conditions -> 0 -> key: required"),
    ({"data.conditions": ["a", "a"]}, "data: conditions and nuisance name a more than once"),
    ({"data.conditions": ["a"], "data.nuisance": ["a"]}, "data: conditions and nuisance name a more than once"),
]


@pytest.mark.parametrize(("overrides", "message"), PROBLEMS, ids=[next(iter(o)) for o, _ in PROBLEMS])
def test_a_problem_is_reported_at_its_exact_path(overrides, message):
    with pytest.raises(ConfigError, match=f"(?m)^  {message}"):
        recipe_config("default", overrides=overrides)


def test_all_problems_are_reported_at_once():
    overrides = {"diffusion.denoiser.width": "many", "autoencoder.encoder": "mlpp", "training.epoch": 3}
    with pytest.raises(ConfigError) as caught:
        recipe_config("default", overrides=overrides)
    assert len(str(caught.value).splitlines()) == 1 + len(overrides)


@pytest.mark.parametrize("name", RECIPES)
def test_a_dumped_config_loads_as_the_same_config(name, tmp_path):
    conditions = ["cell_type", {"kind": "continuous", "key": "dose", "missing": "allow"}]
    config = recipe_config(name, conditions, {"description": "Größe: a sentence\nwith a line break"})
    assert load_config(yaml.safe_load(dump_config(config))) == config
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert read_config(tmp_path / "config.yaml") == config


def test_a_config_does_not_change():
    config = recipe_config("default")
    with pytest.raises(ValidationError):
        config.autoencoder.latent_dim = 3


def test_overrides_reach_components_lists_and_bare_kinds():
    raw = deepcopy(dict(installed().recipe("default")))
    raw["diffusion"]["sampler"] = "ddim"
    raw["data"] = {"conditions": [{"kind": "categorical", "key": "a"}, {"kind": "continuous", "key": "b"}]}
    before = deepcopy(raw)
    overrides = {
        "diffusion.sampler.steps": 7,
        "diffusion.conditioner": "concat",
        "data.conditions.1.missing": "allow",
        "autoencoder.encoder.hidden.0": 99,
        "training.autoencoder.epochs": 2,
    }
    config = load_config(raw, overrides)
    assert (config.diffusion.sampler.kind, config.diffusion.sampler.steps) == ("ddim", 7)
    assert config.diffusion.conditioner.kind == "concat"
    assert [c.missing for c in config.data.conditions] == ["refuse", "allow"]
    assert config.autoencoder.encoder.hidden == (99, 128)
    assert config.training.autoencoder.epochs == 2
    assert raw == before, "the caller's mapping was changed"


def test_later_overrides_do_not_change_the_values_of_earlier_ones():
    overrides = {"diffusion.denoiser": {"kind": "dit", "width": 32}, "diffusion.denoiser.width": 64}
    assert recipe_config("default", overrides=overrides).diffusion.denoiser.width == 64
    assert overrides["diffusion.denoiser"] == {"kind": "dit", "width": 32}


@pytest.mark.parametrize(
    "path", ["data.conditions.1.key", "data.conditions.x.key", "autoencoder.latent_dim.x", "data.conditions.-1.key"]
)
def test_an_override_that_leads_nowhere_names_its_path(path):
    raw = {"data": {"conditions": [{"key": "a"}]}, "autoencoder": {"latent_dim": 3}}
    with pytest.raises(ConfigError, match=f"override {path}: "):
        apply_overrides(raw, {path: 1})


@pytest.mark.parametrize(
    ("text", "value"), [("a.b=3", 3), ("a.b=[1, 2]", [1, 2]), ("a.b=x=y", "x=y"), ("a.b={kind: mlp}", {"kind": "mlp"})]
)
def test_an_override_is_read_as_yaml(text, value):
    assert parse_override(text) == ("a.b", value)


def test_a_recipe_that_is_given_as_a_file_is_recognised(tmp_path):
    with pytest.raises(ConfigError, match=r"default is a recipe and no file; .*--recipe default"):
        read_config("default")
    with pytest.raises(ConfigError, match=r"default.yaml does not exist"):
        read_config(tmp_path / "default.yaml")


@pytest.mark.parametrize("text", ["a.b", "=3", "a.b=[1"])
def test_an_unreadable_override_is_quoted(text):
    with pytest.raises(ConfigError, match="--set"):
        parse_override(text)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- 1", "a config is a mapping")])
def test_a_file_that_is_no_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"does not exist.*default"):
        read_config(tmp_path / "other.yaml")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("diffusion:\n  sampler: ddim\n  prediction: v\n  sampler: heun\n")
    with pytest.raises(ConfigError, match=r"sampler stands there twice\n.*line 2"):
        read_config(tmp_path / "config.yaml")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", RECIPES)
def test_the_json_schema_accepts_every_recipe_short_and_written_out(validator, name):
    validator.validate(dict(installed().recipe(name)))
    written_out = recipe_config(name, ["a", {"kind": "continuous", "key": "b"}], {"diffusion.conditioner": "concat"})
    validator.validate(yaml.safe_load(dump_config(written_out)))


def test_the_json_schema_accepts_a_bare_kind(validator):
    validator.validate(apply_overrides(installed().recipe("default"), {"diffusion.conditioner": "concat"}))


def test_the_json_schema_accepts_the_bare_name_of_a_column(validator):
    validator.validate(apply_overrides(installed().recipe("default"), {"data": {"conditions": ["cell_type"]}}))


def test_the_json_schema_refuses_a_component_without_a_kind(validator):
    assert not validator.is_valid(apply_overrides(installed().recipe("default"), {"diffusion.sampler": {"steps": 3}}))


@pytest.mark.parametrize(
    "path", ["diffusion.denoiser.widht", "autoencoder.latnt_dim", "training.diffusion.step", "descripton"]
)
def test_the_json_schema_refuses_a_misspelt_field(validator, path):
    raw = apply_overrides(recipe_config("default").model_dump(mode="json"), {path: 3})
    assert not validator.is_valid(raw)


def test_the_json_schema_refuses_an_unknown_kind(validator):
    raw = recipe_config("default").model_dump(mode="json")
    assert not validator.is_valid(apply_overrides(raw, {"diffusion.denoiser": "dot"}))
    assert not validator.is_valid(apply_overrides(raw, {"diffusion.denoiser.kind": "dot"}))


def sections(annotation: Any) -> set[type[BaseModel]]:
    """The config classes that a type mentions, with all those inside them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inside = [sections(field.annotation) for field in annotation.model_fields.values()]
        return {annotation}.union(*inside)
    return set().union(*(sections(argument) for argument in get_args(annotation)))


COMPONENTS = [installed().get(i.interface, kind) for i in INTERFACES for kind in installed().kinds(i.interface)]
DOCUMENTED = sorted(sections(ModelConfig) | set(COMPONENTS), key=lambda c: c.__name__)


@pytest.mark.parametrize("config", DOCUMENTED, ids=lambda c: c.__name__)
def test_every_config_and_every_field_is_described_in_one_sentence(config):
    assert (config.__dict__.get("__doc__") or "").strip().endswith(".")
    bare = [name for name, field in config.model_fields.items() if name != "kind" and not field.description]
    assert bare == []
