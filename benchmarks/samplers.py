"""How few network calls each sampler needs: `python benchmarks/samplers.py --data FOLDER`.

Fitted default recipes; every sampler with several numbers of steps makes one cell per held-out label from the same
noise, and is compared with halves of the held-out cells as `latdiff evaluate` does. A data set and seed that is there
is not measured again: `benchmarks/results/samplers/DATA-SEED.csv`. All become `book/samplers.md`, means over the seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from generators import Recipe
from runs import BOOK, MODELS, RESULTS, SPLITS
from splits import LABEL, TUNED_ON, load_split

from latdiff_core.evaluation.cells import CellSet
from latdiff_core.evaluation.metrics.distances import Distances
from latdiff_core.evaluation.metrics.labels import LabelAccuracy
from latdiff_core.evaluation.metrics.two_sample import ClassifierTwoSample
from latdiff_core.evaluation.prepare import Prepared, prepare
from latdiff_core.paths import write_text

CALLS_PER_STEP = {"euler": 1, "heun": 2, "dpmpp_2m": 1, "ddim": 1, "ddpm": 1}
STEPS = {
    "heun": (3, 5, 8, 12, 25),
    "euler": (5, 10, 25, 50),
    "dpmpp_2m": (5, 10, 25, 50),
    "ddim": (5, 10, 50),
    "ddpm": (25, 100, 250),
}
ASKED = (Distances(), ClassifierTwoSample(), LabelAccuracy())
COLUMNS = {"w2": ("W2", 3), "mmd2": ("MMD²", 4), "auc_genes": ("AUC genes", 3), "auc_pcs": ("AUC PCs", 3),
           "label_accuracy": ("labels", 3)}  # fmt: skip


def measure(data: Path, seed: int) -> pd.DataFrame:
    """One row for every sampler and number of steps, and one for real cells."""
    train, test = load_split(data)
    model = Recipe("default").fitted(train, MODELS / f"{data.stem}-{seed}" / "run", seed)
    rows: list[dict[str, object]] = []
    for kind, numbers in STEPS.items():
        for steps in numbers:
            overrides = {"diffusion.sampler": {"kind": kind, "steps": steps}}
            cells = model.generate(conditions=test.obs[[LABEL]], seed=seed, overrides=overrides)
            found = prepare(test, cells, train, [LABEL], {}, None, seed)
            if not rows:
                rows.append({"sampler": "real cells", **scores(found, found.real)})
            calls = steps * CALLS_PER_STEP[kind] - (kind == "heun")
            rows.append({"sampler": kind, "steps": steps, "calls": calls, **scores(found, found.synthetic)})
            print(data.stem, seed, rows[-1], flush=True)
    return pd.DataFrame({"data": data.stem, "seed": seed, **pd.DataFrame(rows)})


def scores(found: Prepared, cells: CellSet) -> dict[str, float]:
    """Means over random halves of what one half scores against the other, or its cells' generated likes do."""
    splits = []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(found.real))
        half, members = found.real[order[: found.n]], cells[order[found.n : 2 * found.n]]
        splits.append({k: v for metric in ASKED for k, v in metric.measure(members, half, found.reference).items()})
    means: dict[str, float] = pd.DataFrame(splits).mean().to_dict()
    return means


def page(table: pd.DataFrame) -> str:
    """The table for readers, means over the seeds."""
    keys = ["data", "sampler", "steps", "calls"]
    grouped = table.groupby(keys, sort=False, dropna=False)
    means = grouped[list(COLUMNS)].mean().reset_index().assign(seeds=grouped.size().to_numpy())
    lines = [
        "# Samplers\n",
        "The same noise for every row of a data set; `calls` are calls of the network. Means over the seeds, each\n"
        "with a model of its own; labels are those that a classifier gives as asked.\n",
        "| " + " | ".join([*keys, *(name for name, _ in COLUMNS.values()), "seeds"]) + " |",
        "|---" * (len(keys) + len(COLUMNS) + 1) + "|",
    ]
    for row in means.to_dict("records"):
        asked = [row["data"], row["sampler"], *("" if np.isnan(row[key]) else f"{row[key]:.0f}" for key in keys[2:])]
        figures = [f"{row[key]:.{digits}f}" for key, (_, digits) in COLUMNS.items()]
        lines.append("| " + " | ".join([*asked, *figures, str(row["seeds"])]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--sets", nargs="+", default=["kang_ifnb_merged", "pbmc3k"], choices=TUNED_ON)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = RESULTS / "samplers"
    for seed in arguments.seeds:
        for name in arguments.sets:
            if not (file := folder / f"{name}-{seed}.csv").exists():
                write_text(
                    file, measure(arguments.data / f"{name}.h5ad", seed).to_csv(index=False, float_format="%.6g")
                )
    write_text(BOOK / "samplers.md", page(pd.concat(map(pd.read_csv, sorted(folder.glob("*.csv"))))))


if __name__ == "__main__":
    main()
