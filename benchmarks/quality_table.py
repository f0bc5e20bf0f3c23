"""The table of `quality.py` and `ablation.py`, from the JSON of every run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BASELINES = ("mean profile", "gene by gene", "training cells")
COLUMNS = ("W2 / floor", "MMD² - floor", "AUC genes", "AUC PCs", "labels / real", "nearest training")
PBMC3K = {
    "W2 / floor": (0.96, 1.03), "MMD² - floor": (-np.inf, 0.002), "AUC genes": (-np.inf, 0.60),
    "labels / real": (0.97, 1.02), "nearest training": (0.95, 1.10),
}  # fmt: skip
OTHERS = {
    "W2 / floor": (0.95, 1.05), "MMD² - floor": (-np.inf, 0.003), "AUC genes": (-np.inf, 0.65),
    "labels / real": (0.95, 1.03), "nearest training": (0.95, 1.10),
}  # fmt: skip
"""What the default recipe aims at, on the means over the seeds."""
SCORES = ("w2", "mmd2", "auc_genes", "auc_pcs", "label_accuracy", "nearest_training")


def figures(scores: dict[str, Any], side: str) -> list[float]:
    """The columns of one row, of generated cells, of a baseline, or of real ones."""
    w2, mmd2, genes, pcs, labels, nearest = (_float(scores[key][side]) for key in SCORES)
    floor = {key: _float(scores[key]["real"]) for key in SCORES}
    return [w2 / floor["w2"], mmd2 - floor["mmd2"], genes, pcs, labels / floor["label_accuracy"], nearest]


def quality_table(folder: Path, title: str) -> str:
    """Markdown: a section per data set, a row per generator, mean over the seeds and, in brackets, their range."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    parts = [f"# {title}\n", _HOW]
    for name in dict.fromkeys(run["data"] for run in runs):
        here = [run for run in runs if run["data"] == name]
        sizes = here[0]["evaluation"]["settings"]
        parts.append(
            f"## {name}\n\n{sizes['training_cells']:,} training and {sizes['held_out_cells']:,} held-out cells, "
            f"{sizes['genes']:,} genes; {sizes['cells_per_side']} cells per side.\n"
        )
        parts.append(_section(here, PBMC3K if name == "pbmc3k" else OTHERS))
    return "\n".join(parts) + "\n"


_HOW = """Each generator is fitted to 70 % of the cells and makes one cell per
held-out label; both are compared in halves. Means over the seeds, in brackets the least and the largest; **bold** where
the default recipe meets its target. *real* is one half of the held-out cells against the other: the floor. Times are of
one CPU thread beside another busy process.
"""


def _section(runs: list[dict[str, Any]], targets: dict[str, tuple[float, float]]) -> str:
    rows: dict[str, list[list[float]]] = {}
    cost: dict[str, list[tuple[float, float, int]]] = {}
    for run in runs:
        scores = run["evaluation"]["scores"]
        rows.setdefault(run["generator"], []).append(figures(scores, "generated"))
        cost.setdefault(run["generator"], []).append((run["fit_seconds"], run["generate_seconds"], run["parameters"]))
        for side in (*BASELINES, "real"):
            rows.setdefault(f"*{side}*", []).append(figures(scores, side))
    order = ["default", *sorted(name for name in cost if name != "default"), *(f"*{b}*" for b in (*BASELINES, "real"))]
    order = [name for name in order if name in rows]
    lines = [f"| | {' | '.join(COLUMNS)} | fit s | parameters | seeds |", "|---" * (len(COLUMNS) + 4) + "|"]
    for name in order:
        values = pd.DataFrame(rows[name], columns=list(COLUMNS))
        cells = [_cell(values[c], targets.get(c) if name == "default" else None, name in cost) for c in COLUMNS]
        spent = np.median([c[0] for c in cost[name]]) if name in cost else None
        more = [f"{spent:.0f}", f"{cost[name][0][2] / 1e6:.1f} M", str(len(cost[name]))] if name in cost else [""] * 3
        lines.append(f"| {name} | {' | '.join([*cells, *more])} |")
    return "\n".join(lines) + "\n"


def _cell(values: pd.Series, target: tuple[float, float] | None, ranged: bool) -> str:
    digits = 4 if values.name == "MMD² - floor" else 3
    mean = values.mean()
    text = f"{mean:.{digits}f}"
    if target is not None and target[0] <= round(mean, digits) <= target[1]:
        text = f"**{text}**"
    return f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})" if ranged and len(values) > 1 else text


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
