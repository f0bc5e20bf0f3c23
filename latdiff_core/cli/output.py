"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from latdiff_core.registry import PluginReport


def print_comparison(table: pd.DataFrame) -> None:
    """Print the comparison, each figure beside its floor."""
    cells = int(table["cells"].iloc[0])
    view = Table(title=f"{cells} generated cells against {cells} held-out cells, beside real against real")
    view.add_column("metric")
    view.add_column("generated", justify="right")
    view.add_column("real", justify="right")
    for metric, row in table.iterrows():
        view.add_row(str(metric), _number(row["synthetic"]), _number(row["real"]))
    Console().print(view)


def print_plugins(plugins: Sequence[PluginReport]) -> None:
    """Print what is installed."""
    view = Table("distribution", "version", Column("brings", overflow="fold"))
    for plugin in plugins:
        brought = sorted([*plugin.kinds, *(f"recipe: {name}" for name in plugin.recipes)])
        failed = Text(f"plugin {plugin.name!r} failed: {plugin.error}", "red")
        text = failed if plugin.error else "\n".join(brought)
        view.add_row(plugin.distribution or plugin.name, plugin.version, text, end_section=True)
    Console().print(view)


def print_recipes(recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the recipes with their descriptions."""
    view = Table("recipe", "what it is")
    for name, recipe in recipes.items():
        view.add_row(name, str(recipe.get("description", "")))
    Console().print(view)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
