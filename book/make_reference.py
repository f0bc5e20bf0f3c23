"""Write the reference pages from the classes themselves: `python book/make_reference.py`, before the book is built.

Into `book/reference/`: `configs.md` (every section and every installed kind, field by field), `hooks.md`,
`commands.md`, and a page for each package with its public names, which Sphinx fills from the docstrings.
"""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from config_reference import configs_page, label
from reference_text import as_markdown, cell, first_sentence, table, told_at
from typer.main import get_command

from latdiff_core import hookspecs
from latdiff_core.cli.app import app
from latdiff_core.interfaces import INTERFACES, Config
from latdiff_core.paths import write_text

FOLDER = Path(__file__).parent / "reference"
PACKAGES = (
    "latdiff_core", "latdiff_core.interfaces", "latdiff_core.configs", "latdiff_core.data", "latdiff_core.evaluation",
    "latdiff_core.training", "latdiff_core.assembly", "latdiff_core.prediction", "latdiff_core.registry",
    "latdiff_core.device", "latdiff_core.errors", "latdiff_core.testing", "latdiff_core.scaffold",
    "latdiff_core.trial",
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
    lines = ["# Commands\n", f"{app.info.help}\n", *table("`latdiff` | what it does", rows)]
    for name, command in commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        asked = [_parameter(p) for p in command.params if p.required or p in arguments]
        rows = [f"| `{_parameter(p)}` | {_needed(p)} | {cell(p.help or '')} |" for p in command.params]
        lines += [f"(latdiff-{name})=", f"## latdiff {name}\n", f"{cell(command.help)}\n"]
        lines += ["```text", " ".join(["latdiff", name, *asked, "[OPTIONS]"]), "```\n"]
        lines += table("argument or option | default | meaning", rows)
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
        rows.append(f"| {told_at(home, name)} | {first_sentence(constants.get(name, thing))} |")
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
    return "\n".join([*head, *table("name | meaning", rows), "```{eval-rst}", *told, "```\n"])


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


if __name__ == "__main__":
    main()
