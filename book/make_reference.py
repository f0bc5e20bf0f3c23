"""Write the reference pages from the classes themselves: `python book/make_reference.py`, before the book is built.

Into `book/reference/`: `configs.md` (every section and every installed kind, field by field), `hooks.md`,
`commands.md`, and a page for each package with its public names, which Sphinx fills from the docstrings.
"""

from __future__ import annotations

import html
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from latdiff_core import hookspecs
from latdiff_core.configs import ModelConfig
from latdiff_core.data.files import write_text
from latdiff_core.interfaces import INTERFACES, Config
from latdiff_core.registry import current_registry

FOLDER = Path(__file__).parent / "reference"
PACKAGES = (
    "latdiff_core", "latdiff_core.interfaces", "latdiff_core.configs", "latdiff_core.data", "latdiff_core.evaluation",
    "latdiff_core.training", "latdiff_core.testing", "latdiff_core.scaffold",
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
    """Every section of a config, and every kind of every interface."""
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
        lines += [f"### {', '.join(paths) or 'The whole config'}\n", *config_table(config)]
    for base in INTERFACES:
        registry, interface = current_registry(), base.interface
        lines += [f"({interface}-kinds)=", f"## {interface.capitalize()}\n", f"{first_sentence(base)}\n"]
        for kind in registry.kinds(interface):
            lines += [f"({interface}-{kind})=", f"### {interface}: `{kind}`\n"]
            lines += [*config_table(registry.get(interface, kind)), f"From `{registry.owner(interface, kind)}`.\n"]
    return "\n".join(lines)


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
    table = ["| field | values | default | |", "|---|---|---|---|", *rows, ""] if rows else ["It has no fields.\n"]
    return [f"{first_sentence(config)}\n", *table]


def _values(config: type[Config], name: str, info: FieldInfo) -> str:
    """What a field takes, from its JSON schema."""
    if isinstance(info.annotation, type) and issubclass(info.annotation, INTERFACES):
        return f"[a kind of {info.annotation.interface}](#{info.annotation.interface}-kinds)"
    if _configs_of(info.annotation):
        return "a section" if len(_configs_of(info.annotation)) == 1 else "a list of sections, or column names"
    return cell(_readable(config.model_json_schema()["properties"][name]))


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
        return "its own defaults"
    if value is None:
        return "null"
    return f"`{list(value) if isinstance(value, tuple) else value}`" if value != "" else "empty"


def hooks_page() -> str:
    """The functions that a plugin implements."""
    lines = ["# Hooks\n", f"{inspect.getdoc(hookspecs)}\n"]
    for name, hook in hooks():
        lines += [f"({name})=", f"## {name}\n", "```python", f"def {name}{inspect.signature(hook)}: ...", "```\n"]
        lines += [f"{inspect.getdoc(hook)}\n"]
    lines += ["[Write a plugin](../../notebooks/09_plugin.ipynb) uses them from an empty folder on.\n"]
    return "\n".join(lines)


def hooks() -> list[tuple[str, Any]]:
    """Every hook specification with its name."""
    return [(name, hook) for name, hook in vars(hookspecs).items() if hasattr(hook, "latdiff_spec")]


def commands_page() -> str:
    """Every command with its arguments and options, as typer tells them."""
    command = [sys.executable, "-m", "typer", "latdiff_core.cli.app", "utils", "docs", "--name", "latdiff"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return html.unescape(text).replace("# `latdiff`", "# Commands", 1).replace("```console", "```text").strip() + "\n"


def package_page(package: str) -> str:
    """What a package is for, a table of its classes and functions, and what their docstrings say.

    What it shows of another package, as `latdiff_core` does of `latdiff_core.configs`, is told on that one's page.
    """
    public = {name: getattr(import_module(package), name) for name in import_module(package).__all__}
    told_there = [name for name, thing in public.items() if _home(thing) != package]
    listed = [name for name, thing in public.items() if inspect.isclass(thing) or inspect.isroutine(thing)]
    rows = "\n".join(f"   {name}" for name in listed)
    excluded = f"\n   :exclude-members: {', '.join(told_there)}" if told_there else ""
    return f"""# {package}

```{{eval-rst}}
.. currentmodule:: {package}

.. autosummary::
   :nosignatures:

{rows}

.. automodule:: {package}
   :members:
   :show-inheritance:{excluded}
```
"""


def _home(thing: Any) -> str:
    """The most specific of the packages that a thing is defined in."""
    module = getattr(thing, "__module__", "")
    homes = [package for package in PACKAGES if f"{module}.".startswith(f"{package}.")]
    return max(homes, key=len, default="")


def first_sentence(thing: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("``", "`")


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    main()
