"""How few network calls each sampler needs: `python benchmarks/samplers.py --data FOLDER`.

One fitted default recipe per data set; every sampler with several numbers of steps makes one cell per held-out label
from the same noise. Printed, and written to `benchmarks/results/samplers.csv` and `book/samplers.md`, are the distances
of the cells from held-out ones beside their floor, means over five random halves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from generators import Recipe
from runs import BOOK, MODELS, RESULTS, SPLITS
from splits import DATA_SETS, LABEL, load_split

from latdiff_core.data.files import write_text
from latdiff_core.evaluation import ExpressionSpace, mmd2, wasserstein2
from latdiff_core.evaluation.metrics.two_sample import two_sample_auc

CALLS_PER_STEP = {"euler": 1, "heun": 2, "dpmpp_2m": 1, "ddim": 1, "ddpm": 1}
STEPS = {
    "heun": (3, 5, 8, 12, 25),
    "euler": (5, 10, 16, 25, 50),
    "dpmpp_2m": (5, 10, 16, 25, 50),
    "ddim": (5, 10, 25, 50),
    "ddpm": (25, 100, 250),
}


def rows(data: Path) -> list[dict[str, object]]:
    """One row for every sampler and number of steps."""
    train, test = load_split(data)
    model = Recipe("default").fitted(train, MODELS / f"{data.stem}-0" / "run")
    space = ExpressionSpace.fit(train.X.tocsr())
    real = space.project(test.X.tocsr())
    half = len(real) // 2
    splits = [np.random.default_rng(seed).permutation(len(real)) for seed in range(SPLITS)]
    sides = [(real[order[:half]], real[order[half : 2 * half]]) for order in splits]
    floor = [measure(other, ours, seed) for seed, (ours, other) in enumerate(sides)]
    out = [{"data": data.stem, "sampler": "real cells", "steps": None, "calls": None, **_means(floor)}]
    for kind, numbers in STEPS.items():
        for steps in numbers:
            overrides = {"diffusion.sampler": {"kind": kind, "steps": steps}}
            cells = model.generate(conditions=test.obs[[LABEL]], seed=0, overrides=overrides)
            points = space.project(cells.X.astype(np.float32))
            found = [
                measure(points[order[half : 2 * half]], ours, seed)  # of the labels that the floor has
                for seed, (order, (ours, _)) in enumerate(zip(splits, sides, strict=True))
            ]
            calls = steps * CALLS_PER_STEP[kind] - (kind == "heun")
            out.append({"data": data.stem, "sampler": kind, "steps": steps, "calls": calls, **_means(found)})
            print(out[-1], flush=True)
    return out


def measure(cells: np.ndarray, ours: np.ndarray, seed: int) -> dict[str, float]:
    """Distances in the space of principal components."""
    auc = two_sample_auc(cells, ours, seed)
    return {"W2": wasserstein2(cells, ours), "MMD²": mmd2(cells, ours), "AUC PCs": auc}


def _means(found: list[dict[str, float]]) -> dict[str, float]:
    return pd.DataFrame(found).mean().to_dict()


def main() -> None:
    """Measure, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--sets", nargs="+", default=["kang_ifnb_merged", "pbmc3k"], choices=DATA_SETS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = pd.DataFrame([row for name in arguments.sets for row in rows(arguments.data / f"{name}.h5ad")])
    table = table.astype({"steps": "Int64", "calls": "Int64"})
    write_text(RESULTS / "samplers.csv", table.to_csv(index=False, float_format="%.6g"))
    shown = table.round({"W2": 3, "MMD²": 4, "AUC PCs": 3}).astype(object).where(table.notna(), "")
    lines = [
        "# Samplers\n",
        "One model per data set, the same noise for every row; `calls` are calls of the network.\n",
    ]
    lines += ["| " + " | ".join(shown.columns) + " |", "|---" * len(shown.columns) + "|"]
    lines += ["| " + " | ".join(map(str, values)) + " |" for values in shown.to_numpy()]
    write_text(BOOK / "samplers.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
