"""From YAML, recipes and overrides to a validated config, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from latdiff_core.configs.component_field import NESTED_ERRORS
from latdiff_core.configs.sections import ModelConfig
from latdiff_core.errors import ConfigError, known
from latdiff_core.interfaces import ComponentConfig
from latdiff_core.registry import current_registry

Overrides = Mapping[str, Any]
"""Values by dotted path, such as ``{"autoencoder.latent_dim": 48}``."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key which stands twice, of which PyYAML takes the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(map(str, twice))} stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_config(raw: Mapping[str, Any], overrides: Overrides | None = None) -> ModelConfig:
    """Validate a raw config.

    Raises
    ------
    ConfigError
        With every problem at once, one per line, as ``path -> of -> keys: what is wrong``.
    """
    merged = apply_overrides(raw, overrides or {})
    try:
        return ModelConfig.model_validate(merged)
    except ValidationError as error:
        lines = [
            f"  {' -> '.join(path) or 'config'}: {text}" for path, text in _problems(error.errors(), (), ModelConfig)
        ]
        raise ConfigError("the config has problems:\n" + "\n".join(lines)) from None


def read_config(path: str | Path, overrides: Overrides | None = None) -> ModelConfig:
    """Read and validate a YAML file.

    Raises
    ------
    ConfigError
        If it does not exist, is no YAML, or what ``load_config`` raises.
    """
    path = Path(path)
    if not path.is_file():
        recipes = current_registry().recipes
        raise ConfigError(
            f"{path} is a recipe and no file; name it as a recipe (--recipe {path}), or write it to a file first "
            f"(latdiff recipes {path} > {path}.yaml)"
            if str(path) in recipes
            else f"{path} does not exist; give a YAML file, or name a recipe instead ({known(recipes)})"
        )
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML in UTF-8: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}; a config is a mapping with autoencoder and diffusion")
    return load_config(raw, overrides)


def recipe_config(
    name: str,
    conditions: Sequence[str | Mapping[str, Any]] = (),
    overrides: Overrides | None = None,
    nuisance: Sequence[str | Mapping[str, Any]] = (),
) -> ModelConfig:
    """A recipe with the user's conditions and nuisance; a bare string is a categorical column of ``adata.obs``."""
    raw: dict[str, Any] = deepcopy(dict(current_registry().recipe(name)))
    for field, asked in (("conditions", conditions), ("nuisance", nuisance)):
        if asked:
            raw["data"] = {**raw.get("data", {}), field: [asked] if isinstance(asked, str) else list(asked)}
    return load_config(raw, overrides)


def dump_config(config: ModelConfig) -> str:
    """The config as YAML, every default written out; ``load_config`` of it gives the same config back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def apply_overrides(raw: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Set values by dotted path in a copy of a raw config; numbers address items of a list.

    Raises
    ------
    ConfigError
        If a path leads through a value, or to an item that a list does not have.
    """
    merged: dict[str, Any] = deepcopy(dict(raw))
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        node: Any = merged
        for key in parents:
            if isinstance(node, dict) and isinstance(node.get(key), str):
                node[key] = {"kind": node[key]}  # a component given by its bare name
            node = node[_index(node, key, dotted)] if isinstance(node, list) else node.setdefault(key, {})
            if not isinstance(node, dict | list):
                raise ConfigError(f"override {dotted}: {key} is a value and has no fields")
        node[_index(node, last, dotted)] = deepcopy(value)
    return merged


def parse_override(text: str) -> tuple[str, Any]:
    """Read ``a.b.c=value``, the value in YAML.

    Raises
    ------
    ConfigError
        If it is written otherwise.
    """
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {text}: write it as path=value, e.g. --set autoencoder.latent_dim=48")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML: {error}") from None


def config_schema() -> dict[str, Any]:
    """JSON Schema of a model config over everything installed, for editors."""
    schema = ModelConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "latdiff model"}


def _index(node: Any, key: str, dotted: str) -> Any:
    if not isinstance(node, list):
        return key
    if not key.isdigit() or int(key) >= len(node):
        raise ConfigError(f"override {dotted}: {key!r} is not one of the {len(node)} items 0 … {len(node) - 1}")
    return int(key)


def _problems(
    errors: Iterable[Any], at: tuple[str, ...], model: type[BaseModel]
) -> Iterable[tuple[tuple[str, ...], str]]:
    for error in errors:
        *parents, last = error["loc"] or ("",)
        path = at + tuple(str(key) for key in (*_keys(model, parents), last) if key != "")
        if error["type"] == NESTED_ERRORS:
            yield from _problems(error["ctx"]["errors"], path, error["ctx"]["model"])
        elif error["type"] == "extra_forbidden":
            fields = [name for m in _models_at(model, error["loc"][:-1]) for name in m.model_fields]
            yield path, f"there is no such field; {known(fields, path[-1])}{_of_another_kind(model, path)}"
        elif error["type"] == "missing":
            yield path, "required, and not given"
        else:
            given = error.get("input")
            shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
            yield path, error["msg"].removeprefix("Value error, ") + shown


def _of_another_kind(model: type[BaseModel], path: Sequence[str]) -> str:
    """What to do with a field of another kind: it was set for that, or is left of it where only the kind was set."""
    *part, field = path
    if not issubclass(model, ComponentConfig):
        return ""
    registry = current_registry()
    kinds = registry.kinds(model.interface)
    others = [kind for kind in kinds if field in registry.get(model.interface, kind).model_fields]
    if not others:
        return ""
    dotted, kind = ".".join(part), model.kind_name()
    theirs = others[0] if len(others) == 1 else f"one of these ({', '.join(others)})"
    return f". Set {dotted}.kind to {theirs}, which has it, or set {dotted}={kind} for {kind} with its own fields alone"


def _keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str | int]:
    """A location's keys without the kinds of union members, which are no keys of the file."""

    def is_kind(i: int) -> bool:
        fields = (m.model_fields for m in _models_at(model, location[:i]))
        return any("kind" in f and f["kind"].default == location[i] for f in fields)

    return [key for i, key in enumerate(location) if not is_kind(i)]


def _models_at(model: type[BaseModel], location: Sequence[str | int]) -> list[type[BaseModel]]:
    """The config classes that an error's location leads to; the kind of a union member is a step of it."""
    options = [model]
    for key in location:
        if isinstance(key, str):
            tagged = [o for o in options if "kind" in o.model_fields and o.model_fields["kind"].default == key]
            fields = [o.model_fields[key].annotation for o in options if key in o.model_fields]
            options = tagged or [m for annotation in fields for m in _models_in(annotation)]
    return options


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
