"""The table of `quality.py` and `ablation.py`, from the JSON of every run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from runs import BOOK, RESULTS

from latdiff_core.data.files import write_text

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


def write_tables(name: str, title: str) -> None:
    """``results/NAME.csv``, a row per run and side, and ``book/NAME.md``, a section per data set; print the latter."""
    runs = [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob("*.json"))]
    rows = _rows(runs)
    write_text(RESULTS / f"{name}.csv", rows.to_csv(index=False, float_format="%.6g"))
    page = _page(rows, runs, title)
    write_text(BOOK / f"{name}.md", page)
    print(page)


def _rows(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per run for the generator, and one for each baseline and for real cells."""
    out = []
    for run in runs:
        scores = run["evaluation"]["scores"]
        floor = {key: _float(scores[key]["real"]) for key in SCORES}
        sides = {"generated": run["generator"], **{side: side for side in (*BASELINES, "real")}}
        for side, generator in sides.items():
            w2, mmd2, genes, pcs, labels, nearest = (_float(scores[key][side]) for key in SCORES)
            ratios = (w2 / floor["w2"], mmd2 - floor["mmd2"], genes, pcs, labels / floor["label_accuracy"], nearest)
            cost = {key: run[key] for key in ("fit_seconds", "generate_seconds", "parameters", "threads")}
            out.append(
                {"data": run["data"], "generator": generator, "side": side, "seed": run["seed"]}
                | dict(zip(COLUMNS, ratios, strict=True))
                | (cost if side == "generated" else {})
            )
    return pd.DataFrame(out)


_HOW = """Each generator is fitted to 70 % of the cells and makes one cell per
held-out label; both are compared in halves. Means over the seeds, in brackets the least and the largest; **bold** where
the default recipe meets its target. *real* is one half of the held-out cells against the other: the floor. Times are of
one CPU thread beside another busy process.
"""


def _page(rows: pd.DataFrame, runs: list[dict[str, Any]], title: str) -> str:
    parts = [f"# {title}\n", _HOW]
    for data, here in rows.groupby("data", sort=False):
        sizes = next(run["evaluation"]["settings"] for run in runs if run["data"] == data)
        parts.append(
            f"## {data}\n\n{sizes['training_cells']:,} training and {sizes['held_out_cells']:,} held-out cells, "
            f"{sizes['genes']:,} genes; {sizes['cells_per_side']} cells per side.\n"
        )
        parts.append(_section(here, PBMC3K if data == "pbmc3k" else OTHERS))
    return "\n".join(parts)


def _section(rows: pd.DataFrame, targets: dict[str, tuple[float, float]]) -> str:
    made = rows[rows["side"] == "generated"]
    order = ["default", *(name for name in dict.fromkeys(made["generator"]) if name != "default"), *BASELINES, "real"]
    lines = [f"| | {' | '.join(COLUMNS)} | fit s | parameters | seeds |", "|---" * (len(COLUMNS) + 4) + "|"]
    for name in order:
        values = rows[rows["generator"] == name]
        if values.empty:
            continue
        own = values["side"].iloc[0] == "generated"
        cells = [_cell(values[c], targets.get(c) if name == "default" else None, own) for c in COLUMNS]
        more = [""] * 3
        if own:
            fit, size = values["fit_seconds"].median(), values["parameters"].iloc[0] / 1e6
            more = [f"{fit:.0f}" if fit else "-", f"{size:.1f} M", str(len(values))]
        lines.append(f"| {name if own else f'*{name}*'} | {' | '.join([*cells, *more])} |")
    return "\n".join(lines) + "\n"


def _cell(values: pd.Series, target: tuple[float, float] | None, ranged: bool) -> str:
    digits = 4 if values.name == "MMD² - floor" else 3
    mean = values.mean()
    text = f"{mean:.{digits}f}"
    if target is not None and target[0] <= mean <= target[1]:
        text = f"**{text}**"
    return f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})" if ranged and len(values) > 1 else text


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
