"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from latdiff_core.evaluation.report import format_number
from latdiff_core.evaluation.result import GENERATED, REAL
from latdiff_core.trial import REPORT, SYNTHETIC, Trial

if TYPE_CHECKING:
    import pandas as pd

    from latdiff_core.evaluation import Evaluation
    from latdiff_core.registry import PluginReport

MOST_CONDITIONS = 12
COLORS = {
    "like real": "green",
    "between": "yellow",
    "trivial": "red",
    "beyond real": "yellow",
    "cannot tell": "dim",
    "unknown": "dim",
}


def print_evaluation(evaluation: Evaluation) -> None:
    """Print every score of generated cells beside its floor, the nearest trivial generator, and how it stands."""
    n = evaluation.settings["cells_per_side"]
    title = f"{n:,} generated cells against {n:,} held-out cells; aim at what real cells score"
    view = Table(title=title, box=SIMPLE, pad_edge=False)
    view.add_column("score", overflow="fold")
    for name in (GENERATED, REAL, "± chance", "trivial"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("which is", no_wrap=True)
    for key, row in evaluation.table.iterrows():
        trivial = row[row["nearest"]] if row["nearest"] else float("nan")
        figures = map(format_number, (row[GENERATED], row[REAL], row["reach"], trivial))
        view.add_row(evaluation.scores[str(key)].name, *figures, Text(row["standing"], COLORS[row["standing"]]))
    console = Console()
    console.print(view)
    if len(evaluation.conditions) > 1:
        console.print(_condition_view(evaluation.conditions))
    for note in evaluation.settings["notes"]:
        console.print(note, style="yellow", markup=False)


def print_trial(made: Trial) -> None:
    """Print how generated cells stand, and where everything is."""
    print_evaluation(made.evaluation)
    Console().print(
        f"Open {made.folder / REPORT} in a browser; the generated cells are in {made.folder / SYNTHETIC}.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _condition_view(conditions: pd.DataFrame) -> Table:
    """The conditions that are farthest from real, as in the table of scores."""
    most = MOST_CONDITIONS
    worst = (conditions["w2"] / conditions["w2_real"]).nlargest(most).index
    shown = "condition by condition" if len(conditions) <= most else f"the {most} worst conditions"
    view = Table(title=shown, box=SIMPLE, pad_edge=False)
    view.add_column("condition", overflow="fold")
    for name in ("cells", "W2", "real", "±", "trivial", "labels", "real", "±"):
        view.add_column(name, justify="right", no_wrap=True)
    for name, row in conditions.loc[worst].iterrows():
        distances = [row[f"w2{side}"] for side in ("", "_real", "_reach", "_trivial")]
        labels = [row[f"label_accuracy{side}"] for side in ("", "_real", "_reach")]
        view.add_row(Text(str(name)), f"{row['cells']:.0f}", *map(format_number, distances + labels))
    return view


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
