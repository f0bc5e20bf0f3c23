"""The reference page of configs: every section, every installed kind, every recipe, field by field."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo
from reference_text import cell, first_sentence, table, told_at

from latdiff_core import interfaces
from latdiff_core.configs import ModelConfig
from latdiff_core.interfaces import INTERFACES, Config
from latdiff_core.registry import current_registry


def configs_page() -> str:
    """Every section of a config, every kind of every interface, and every recipe."""
    lines = [
        "# Configs\n",
        "A config is a tree of sections. Where a field takes a *kind*, it is any of those below, or one that a plugin",
        "of yours brings. `latdiff check config.yaml` finds what does not fit; `latdiff schema` tells an editor.\n",
        "## Sections\n",
    ]
    places: dict[type[Config], list[str]] = {}
    for path, config in sections(ModelConfig):
        places.setdefault(config, []).append(path)
    for config, paths in places.items():
        lines += [f"({label(config)})=", f"### {', '.join(paths) or 'The whole config'}\n", *config_table(config)]
    for base in INTERFACES:
        registry, interface = current_registry(), base.interface
        lines += [f"({interface}-kinds)=", f"## {interface.capitalize()}\n", f"{first_sentence(_interface(base))}\n"]
        for kind in registry.kinds(interface):
            config, owner = registry.get(interface, kind), registry.owner(interface, kind)
            lines += [f"({label(config)})=", f"### `{kind}`\n", *config_table(config)]
            lines += [f"{told_at(owner.replace('-', '_'), config.__name__)} in `{owner}`.\n"]
    recipes = [f"| `{name}` | {cell(recipe['description'])} |" for name, recipe in current_registry().recipes.items()]
    lines += ["## Recipes\n", "`latdiff recipes NAME` prints one whole.\n", *table("recipe | what it is", recipes)]
    return "\n".join(lines)


def _interface(base: type[Config]) -> type:
    """The interface that a base config is of."""
    return getattr(interfaces, base.__name__.removesuffix("Config"))


def label(config: type[Config]) -> str | None:
    """Where a config's fields are told; None for the bases that others are made of."""
    if config in dict(map(reversed, sections(ModelConfig))):
        return f"section-{config.__name__.lower()}"
    told = issubclass(config, INTERFACES) and not inspect.isabstract(config)
    return f"{config.interface}-{config.kind_name()}" if told else None


def sections(config: type[Config], path: str = "") -> Iterator[tuple[str, type[Config]]]:
    """A section and those inside it, each with its path in YAML; components are no sections."""
    yield path, config
    for name, info in config.model_fields.items():
        for part in _configs_of(info.annotation):
            inner = f"{path}.{name}".lstrip(".")
            many = len(_configs_of(info.annotation)) > 1
            yield from sections(part, f"{inner}: {part.model_fields['kind'].default}" if many else inner)


def _configs_of(annotation: Any) -> list[type[Config]]:
    """The sections that a field's annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [] if issubclass(annotation, INTERFACES) else [annotation]
    return [found for part in get_args(annotation) for found in _configs_of(part)]


def config_table(config: type[Config]) -> list[str]:
    """What a config is for, and a row for each field but its kind."""
    rows = [
        f"| `{name}` | {_values(config, name, info)} | {_default(info)} | {cell(info.description or '')} |"
        for name, info in config.model_fields.items()
        if name != "kind"
    ]
    return [
        f"{first_sentence(config)}\n",
        *(table("field | values | default | meaning", rows) or ["It has no fields.\n"]),
    ]


def _values(config: type[Config], name: str, info: FieldInfo) -> str:
    """What a field takes, from its JSON schema."""
    if isinstance(info.annotation, type) and issubclass(info.annotation, INTERFACES):
        return f"[a kind of {info.annotation.interface}](#{info.annotation.interface}-kinds)"
    if parts := _configs_of(info.annotation):
        links = ", ".join(f"[{_part(part)}](#{label(part)})" for part in parts)
        return links if len(parts) == 1 else f"list of {links}, or of column names"
    return cell(_readable(config.model_json_schema()["properties"][name]))


def _part(config: type[Config]) -> str:
    return str(config.model_fields["kind"].default) if "kind" in config.model_fields else "section"


def _readable(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_readable(part) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        item = schema.get("items") or {}
        return f"list of {_readable(item)}" if isinstance(item, dict) and item else "list"
    names = {"integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
    limits = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in limits.items() if key in schema]
    return " ".join([names.get(schema.get("type", ""), "text"), ", ".join(bounds)]).strip()


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, Config):
        return "its own"
    if value is None:
        return "null"
    return f"`{list(value) if isinstance(value, tuple) else value}`" if value != "" else "empty"
