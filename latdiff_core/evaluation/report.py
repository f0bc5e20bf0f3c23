"""The report: one self-contained HTML page that a biologist can read."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latdiff_core import __version__
from latdiff_core.evaluation.baselines import BASELINE_SPLITS, BASELINES
from latdiff_core.evaluation.figures import condition_figure, gene_figure, overview_figure, score_figure
from latdiff_core.evaluation.result import GENERATED, REAL, Evaluation
from latdiff_core.paths import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST_GENES = 15
TEMPLATE = "report.html.jinja"


def write_report(evaluation: Evaluation, path: str | Path) -> None:
    """Write the page with all its figures inside, whole or not at all; nothing is fetched when it is opened."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("latdiff_core.evaluation").joinpath(TEMPLATE).read_text(encoding="utf-8")
    table = evaluation.table
    telling = table[~table["standing"].isin(["unknown", "cannot tell"])]
    figures = {
        "overview": overview_figure(evaluation),
        "scores": score_figure(evaluation),
        "conditions": condition_figure(evaluation),
        "genes": gene_figure(evaluation),
    }
    page = environment.from_string(source).render(
        version=__version__,
        settings=evaluation.settings,
        like_real=int((telling["standing"] == "like real").sum()),
        scores=len(telling),
        blind=[evaluation.scores[str(key)].name for key in table.index[table["standing"] == "cannot tell"]],
        trivial=[evaluation.scores[str(key)].name for key in table.index[table["standing"] == "trivial"]],
        baselines=BASELINES,
        baseline_splits=BASELINE_SPLITS,
        sections=[(title, list(rows)) for title, rows in groupby(_rows(evaluation), key=lambda row: row["heading"])],
        genes=_genes(evaluation.genes.head(WORST_GENES)),
        figures={name: figure and _embed(figure) for name, figure in figures.items()},
    )
    write_text(Path(path), page)


def format_number(value: float) -> str:
    """A figure as a person reads it: three to four digits, a dash where there is none."""
    if not np.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.2f}"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "heading": evaluation.metric_of[str(key)].title,
            "name": evaluation.scores[str(key)].name,
            "meaning": evaluation.scores[str(key)].meaning,
            "standing": row["standing"],
            **{side: _with_interval(row, side) for side in (GENERATED, REAL)},
            "baselines": [_with_interval(row, side) for side in BASELINES],
        }
        for key, row in evaluation.table.iterrows()
    ]


def _with_interval(row: pd.Series, side: str) -> tuple[str, str]:
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    interval = f"{format_number(low)} to {format_number(high)}" if np.isfinite(low + high) else ""
    return format_number(row[side]), interval


def _genes(table: pd.DataFrame) -> list[list[str]]:
    return [[str(name), *map(format_number, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]


def _embed(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
