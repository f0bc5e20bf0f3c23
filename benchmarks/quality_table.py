"""The table of `quality.py` and `ablation.py`, from the JSON of every run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import yaml
from runs import BOOK, RESULTS
from splits import DATA_SETS, UNSEEN

from latdiff_core.evaluation.report import format_number
from latdiff_core.paths import write_text

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
    """One row per run for the generator, and one per data set and seed for each baseline and for real cells.

    Every score stands there with its interval, after the six of the table.
    """
    out = []
    for run in sorted(runs, key=lambda run: run["generator"] != "default"):
        scores = run["evaluation"]["scores"]
        floor = {key: _float(scores[key]["real"]) for key in SCORES}
        sides = {"generated": run["generator"], **{side: side for side in (*BASELINES, "real")}}
        for side, generator in sides.items():
            w2, mmd2, genes, pcs, labels, nearest = (_float(scores[key][side]) for key in SCORES)
            ratios = (w2 / floor["w2"], mmd2 - floor["mmd2"], genes, pcs, labels / floor["label_accuracy"], nearest)
            cost = {key: run[key] for key in ("fit_seconds", "generate_seconds", "parameters", "threads")}
            config = run["config"]
            cost["config"] = json.dumps(yaml.safe_load(config) if isinstance(config, str) else config)
            intervals = {
                f"{key}{end}": _float(score.get(f"{side}{end}"))
                for key, score in scores.items()
                for end in ("", "_low", "_high")
            }
            out.append(
                {"data": run["data"], "generator": generator, "side": side, "seed": run["seed"]}
                | dict(zip(COLUMNS, ratios, strict=True))
                | (cost if side == "generated" else {})
                | intervals
            )
    rows = pd.DataFrame(out).drop_duplicates(["data", "generator", "side", "seed"])
    return rows.sort_values("data", key=lambda names: names.map(DATA_SETS.index), kind="stable")


_HOW = """Each generator is fitted to 70 % of the cells and makes one cell per
held-out label; both are compared in halves. Means over the seeds, in brackets the least and the largest; **bold** where
the default recipe meets its target. *real* is one half of the held-out cells against the other: the floor. Times are of
one CPU thread beside another busy process, medians over the seeds; machines differed by up to a factor of two.
"""
_WHAT_IS_FITTED = """Rows that change stage 2 alone (a prediction, a schedule, a network) take over stage 1 of the
default, and their time is that of stage 2; rows that change the sampling take over the whole model.
"""


def _page(rows: pd.DataFrame, runs: list[dict[str, Any]], title: str) -> str:
    parts = [f"# {title}\n", _HOW, *([_WHAT_IS_FITTED] if title == "Ablation" else [])]
    for data, here in rows.groupby("data", sort=False):
        sizes = next(run["evaluation"]["settings"] for run in runs if run["data"] == data)
        untouched = "Nothing was tuned on this data set. " if data in UNSEEN else ""
        parts.append(
            f"## {data}\n\n{untouched}{sizes['training_cells']:,} training and {sizes['held_out_cells']:,} held-out "
            f"cells, {sizes['genes']:,} genes; {sizes['cells_per_side']} cells per side.\n"
        )
        targets = PBMC3K if data == "pbmc3k" else OTHERS
        parts.append(_section(here, targets))
        if "default" in set(here["generator"]):
            parts.append(_verdict(here, targets))
            if title == "Quality":
                parts.append(_in_full(here, runs))
    return "\n".join(parts)


def _verdict(rows: pd.DataFrame, targets: dict[str, tuple[float, float]]) -> str:
    """What the default recipe aims at, what of it is missed, and where scVI is not worse."""
    means = rows[rows["side"] == "generated"].groupby("generator")[list(COLUMNS)].mean()
    default = means.loc["default"]
    aims = ", ".join(f"{name} {_range(*target)}" for name, target in targets.items())
    missed = [name for name, (low, high) in targets.items() if not low <= default[name] <= high]
    text = f"Targets: {aims}; {'missed: ' + ', '.join(missed) if missed else 'all met'}."
    if "scvi" in means.index:
        compared = ["W2 / floor", "MMD² - floor", "AUC genes"]
        ours, theirs = _from_ideal(default), _from_ideal(means.loc["scvi"])
        worse = [name for name in compared if not ours[name] < theirs[name]]
        answer = f"not on {', '.join(worse)}" if worse else "yes"
        text += f" Nearer to real than scVI on {', '.join(compared)}: {answer}."
    return text + "\n"


def _from_ideal(means: pd.Series) -> pd.Series:
    """How far each of the three scores is from that of real cells."""
    ideal = pd.Series({"W2 / floor": 1.0, "MMD² - floor": 0.0, "AUC genes": 0.5})
    return (means[ideal.index] - ideal).abs()


def _range(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if np.isfinite(low) else f"at most {high:g}"


def _in_full(rows: pd.DataFrame, runs: list[dict[str, Any]]) -> str:
    """Every score of the default recipe's first seed with its interval, beside real cells and the baselines."""
    here = rows[(rows["generator"] == "default") | rows["side"].isin([*BASELINES, "real"])]
    here = here[here["seed"] == here.loc[here["side"] == "generated", "seed"].min()].set_index("side")
    scores = next(run["evaluation"]["scores"] for run in runs if run["generator"] == "default")
    sides = ["generated", "real", *BASELINES]
    lines = [
        "### Every score of the default recipe, one seed, with intervals\n",
        f"| | {' | '.join(sides)} |", "|---" * (len(sides) + 1) + "|",
    ]  # fmt: skip
    for key, score in scores.items():
        values = [[here.loc[side, f"{key}{end}"] for end in ("", "_low", "_high")] for side in sides]
        lines.append(f"| {score['name']} | {' | '.join(_with_interval(*v) for v in values)} |")
    return "\n".join([*lines, ""])


def _with_interval(value: float, low: float, high: float) -> str:
    return format_number(value) + (f" ± {format_number((high - low) / 2)}" if np.isfinite(high - low) else "")


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
    text = f"{mean:z.{digits}f}"
    if target is not None and target[0] <= mean <= target[1]:
        text = f"**{text}**"
    return f"{text} ({values.min():z.{digits}f} to {values.max():z.{digits}f})" if ranged and len(values) > 1 else text


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
