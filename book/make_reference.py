"""Write the reference pages from the classes themselves: `python book/make_reference.py`, before the book is built.

Into `book/reference/`: `configs.md` (every section and every installed kind, field by field), `hooks.md`,
`commands.md`, and a page for each package with its public names, which Sphinx fills from the docstrings.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from typer.main import get_command

from latdiff_core import hookspecs, interfaces
from latdiff_core.cli.app import app
from latdiff_core.configs import ModelConfig
from latdiff_core.data.files import write_text
from latdiff_core.interfaces import INTERFACES, Config
from latdiff_core.registry import current_registry

FOLDER = Path(__file__).parent / "reference"
PACKAGES = (
    "latdiff_core", "latdiff_core.interfaces", "latdiff_core.configs", "latdiff_core.data", "latdiff_core.evaluation",
    "latdiff_core.training", "latdiff_core.assembly", "latdiff_core.prediction", "latdiff_core.registry",
    "latdiff_core.errors", "latdiff_core.testing", "latdiff_core.scaffold",
    "latdiff_counts", "latdiff_denoisers", "latdiff_processes", "latdiff_conditioning", "latdiff_example",
)  # fmt: skip


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        write_text(FOLDER / f"{name}.md", text)
    print(f"reference pages written to {FOLDER}", file=sys.stderr)


def pages() -> dict[str, str]:
    """The text of every page by its name."""
    made = {"configs": configs_page(), "hooks": hooks_page(), "commands": commands_page()}
    return made | {package: package_page(package) for package in PACKAGES}


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
            lines += [f"{_told_at(owner.replace('-', '_'), config.__name__)} in `{owner}`.\n"]
    recipes = [f"| `{name}` | {cell(recipe['description'])} |" for name, recipe in current_registry().recipes.items()]
    lines += ["## Recipes\n", "`latdiff recipes NAME` prints one whole.\n", *_table("recipe | what it is", recipes)]
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
        *(_table("field | values | default | meaning", rows) or ["It has no fields.\n"]),
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


def hooks_page() -> str:
    """The functions that a plugin implements."""
    lines = ["# Hooks\n", f"{as_markdown(hookspecs)}\n"]
    for name, hook in hooks():
        signature = str(inspect.signature(hook)).replace("'", "")  # annotations are text
        lines += [f"({name})=", f"## {name}\n", "```python", f"def {name}{signature}: ...", "```\n"]
        lines += [f"{as_markdown(hook)}\n"]
    lines += ["[Write a plugin](../../notebooks/09_plugin.ipynb) uses them from an empty folder on.\n"]
    return "\n".join(lines)


def hooks() -> list[tuple[str, Any]]:
    """Every hook specification with its name."""
    return [(name, hook) for name, hook in vars(hookspecs).items() if hasattr(hook, "latdiff_spec")]


def commands_page() -> str:
    """Every command with its arguments and options, as typer knows them."""
    commands = get_command(app).commands
    rows = [f"| [{name}](#latdiff-{name}) | {cell(command.help)} |" for name, command in commands.items()]
    lines = ["# Commands\n", f"{app.info.help}\n", *_table("`latdiff` | what it does", rows)]
    for name, command in commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        asked = [_parameter(p) for p in command.params if p.required or p in arguments]
        rows = [f"| `{_parameter(p)}` | {_needed(p)} | {cell(p.help or '')} |" for p in command.params]
        lines += [f"(latdiff-{name})=", f"## latdiff {name}\n", f"{cell(command.help)}\n"]
        lines += ["```text", " ".join(["latdiff", name, *asked, "[OPTIONS]"]), "```\n"]
        lines += _table("argument or option | default | meaning", rows)
    return "\n".join(lines)


def _parameter(parameter: Any) -> str:
    """How an argument or option is written."""
    value = parameter.metavar or parameter.name.upper().strip("_")
    if parameter.param_type_name == "argument":
        return value
    return ", ".join(parameter.opts) + ("" if parameter.is_flag else f" {value}")


def _needed(parameter: Any) -> str:
    shown = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    return "required" if parameter.required else "" if shown is None or shown is False else f"`{shown}`"


def package_page(package: str) -> str:
    """What a package is for, a table of its public names, and what their docstrings say.

    What it shows of another package, as `latdiff_core` does of `latdiff_core.configs`, is told on that one's page.
    """
    module = import_module(package)
    constants = constant_docs(package)
    rows, told = [], [f".. py:module:: {package}"]
    for name in module.__all__:
        thing = getattr(module, name)
        home = package if name in constants else _home(thing)
        rows.append(f"| {_told_at(home, name)} | {first_sentence(constants.get(name, thing))} |")
        if name in constants:
            told += [f".. py:data:: {name}", "", *_indented(constants[name])]
        elif home == package and inspect.isclass(thing) and issubclass(thing, Config) and label(thing):
            fields = f":ref:`{thing.kind_name() if issubclass(thing, INTERFACES) else name} <{label(thing)}>`"
            told += [
                f".. py:class:: {name}",
                f"   :canonical: {thing.__module__}.{name}",
                "",
                *_indented(inspect.getdoc(thing) or ""),
                "",
                f"   Its fields: {fields}.",
            ]
        elif home == package and inspect.isclass(thing):
            bases = [] if thing.__bases__ == (object,) else ["   :show-inheritance:"]
            told += [f".. autoclass:: {name}", "   :members:", *bases]
        elif home == package:
            told += [f".. autofunction:: {name}"]
        told += [""]
    head = [f"# {package}\n", "```{eval-rst}", inspect.getdoc(module) or "", "```\n"]
    return "\n".join([*head, *_table("name | meaning", rows), "```{eval-rst}", *told, "```\n"])


def constant_docs(package: str) -> dict[str, str]:
    """The text below each public constant and type of a package, from the module that assigns it."""
    module, docs = import_module(package), {}
    source = Path(module.__file__ or "")
    for path in source.parent.rglob("*.py") if source.name == "__init__.py" else [source]:
        for statement, below in pairwise(ast.parse(path.read_text(encoding="utf-8")).body):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            docs |= {t.id: inspect.cleandoc(below.value.value) for t in targets if is_text and isinstance(t, ast.Name)}
    return {name: text for name, text in docs.items() if name in module.__all__}


def _indented(text: str) -> list[str]:
    return [f"   {line}".rstrip() for line in text.splitlines()]


def _home(thing: Any) -> str:
    """The most specific of the packages that a thing is defined in."""
    module = getattr(thing, "__module__", "")
    homes = [package for package in PACKAGES if f"{module}.".startswith(f"{package}.")]
    return max(homes, key=len, default="")


def _told_at(package: str, name: str) -> str:
    """A link to where a name's docstring is shown."""
    return f"{{py:obj}}`{name} <{package}.{name}>`"


def _table(head: str, rows: Iterable[str]) -> list[str]:
    rows = list(rows)
    return [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows, ""] if rows else []


def as_markdown(thing: Any) -> str:
    """A docstring without sections, in Markdown."""
    return (inspect.getdoc(thing) or "").replace("``", "`")


def first_sentence(thing: Any) -> str:
    """The first paragraph of a docstring, or of a text, on one line."""
    text = thing if isinstance(thing, str) else inspect.getdoc(thing) or ""
    return cell(text.split("\n\n")[0])


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    main()
