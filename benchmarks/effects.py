"""What interferon does to each type of cell, seen or not: `python benchmarks/effects.py --data FOLDER`.

The default recipe conditional on type and stimulation, fitted to 70 % of kang_ifnb_merged, generates a thousand cells
of each type and stimulation; fitted again without the stimulated cells of a type, for three of the types, it generates
those all the same. The effect is the difference of the mean log1p counts per 10,000 of stimulated and control cells of
a type, and its error that from a half of the held-out cells, over the size of the effect.

Every error has the noise of that half in it. Beside it stand the other half of the held-out cells, which has as much
noise again; the training cells of the type, which a generator that has seen them can at best equal; and the mean effect
on the other types, the trivial answer for a combination that was not seen, in analogy to what published models of
unseen perturbations often fail to beat (Ahlmann-Eltze et al. 2025, Nature Methods 22:1657). The figures go to
`benchmarks/results/effects.csv` and `book/effects.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from runs import BOOK, RESULTS, SPLITS
from splits import LABEL, load_split

from latdiff_core import LatentDiffusion
from latdiff_core.data import counts_per_10k, stratified_split
from latdiff_core.paths import write_text

DATA, KEY, CONTROL, STIMULATED = "kang_ifnb_merged", "condition", "ctrl", "stim"
LEFT_OUT = ("B cells", "CD14+ Monocytes", "CD4 T cells")
CELLS = 1000
SEED = 0
HOW = """Error of the effect of interferon on each type of cell of kang_ifnb, over the size of the effect (1 is no
effect), from one half of the held-out cells; means over five halves, one fit each. *real cells* is the other half.
*training cells* and *mean of the other types* are the effects in the training data, *generated* those in a thousand
cells of each kind. *never seen*: from a model fitted without the stimulated cells of that type, whose trivial answer is
the last column.
"""
COLUMNS = ("real cells", "training cells", "generated", "generated, never seen", "mean of the other types")


def fitted(train: anndata.AnnData) -> LatentDiffusion:
    """The default recipe, conditional on type and stimulation."""
    model = LatentDiffusion.from_recipe("default", [LABEL, KEY], {"training.seed": SEED})
    return model.fit(train, progress=False)


def effect(cells: anndata.AnnData, of: str) -> np.ndarray:
    """Mean log1p counts per 10,000 of stimulated cells of a type less that of control cells, (genes,)."""
    chosen = cells[(cells.obs[LABEL] == of).to_numpy()]
    values = counts_per_10k(chosen.X.tocsr().astype(np.float32))
    stimulated = (chosen.obs[KEY] == STIMULATED).to_numpy()
    means = [np.asarray(values[rows].mean(0)).ravel() for rows in (stimulated, ~stimulated)]
    return np.asarray(means[0] - means[1])


def generated_effect(model: LatentDiffusion, of: str) -> np.ndarray:
    """The effect on a thousand cells of a type with each stimulation."""
    asked = pd.DataFrame({LABEL: of, KEY: np.repeat([STIMULATED, CONTROL], CELLS)})
    return effect(model.generate(conditions=asked, seed=SEED), of)


def mean_effect(cells: anndata.AnnData, types: Sequence[str]) -> np.ndarray:
    """The mean effect on several types, each weighted by how certain it is: by 1 / (1 / stimulated + 1 / controls)."""
    sizes = cells.obs.groupby([LABEL, KEY], observed=True).size().unstack()
    weights = 1 / (1 / sizes).sum(axis=1)
    return np.average([effect(cells, of) for of in types], axis=0, weights=weights[list(types)])


def without(train: anndata.AnnData, of: str) -> anndata.AnnData:
    """The training cells but for the stimulated ones of a type."""
    return train[~((train.obs[LABEL] == of) & (train.obs[KEY] == STIMULATED)).to_numpy()].copy()


def errors(test: anndata.AnnData, of: str, answers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Relative error of each answer for a type, and of the other half of the held-out cells; means over the splits."""
    found: dict[str, list[float]] = {name: [] for name in ("real cells", *answers)}
    groups = (test.obs[LABEL].astype(str) + test.obs[KEY].astype(str)).to_numpy()
    for number in range(SPLITS):
        ours, other = (effect(test[rows], of) for rows in stratified_split(groups, 0.5, number))
        for name, answer in {"real cells": other, **answers}.items():
            found[name].append(float(np.linalg.norm(answer - ours) / np.linalg.norm(ours)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def table(path: Path) -> pd.DataFrame:
    """A row per type: the errors of the effect of interferon."""
    train, test = load_split(path, SEED, strata=(LABEL, KEY))
    model, types = fitted(train), sorted(set(train.obs[LABEL].astype(str)))
    rows = []
    for of in types:
        answers = {
            "training cells": effect(train, of),
            "generated": generated_effect(model, of),
            "mean of the other types": mean_effect(train, [other for other in types if other != of]),
        }
        if of in LEFT_OUT:
            answers["generated, never seen"] = generated_effect(fitted(without(train, of)), of)
        rows.append({"type": of, **errors(test, of, answers)})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)[["type", *COLUMNS]]


def main() -> None:
    """Measure, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = table(arguments.data / f"{DATA}.h5ad")
    write_text(RESULTS / "effects.csv", found.to_csv(index=False, float_format="%.4g"))
    lines = ["# Effects of interferon\n", HOW]
    lines += ["| " + " | ".join(found.columns) + " |", "|---" * len(found.columns) + "|"]
    lines += [
        f"| {row[0]} | " + " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in row[1:]) + " |"
        for row in found.itertuples(index=False, name=None)
    ]
    write_text(BOOK / "effects.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
