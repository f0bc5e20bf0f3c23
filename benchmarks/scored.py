"""One fit of the default recipe, changed or on changed data: its scores, and the page with a row of them each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anndata
import pandas as pd
from runs import BOOK, RESULTS, SPLITS
from splits import LABEL

from latdiff_core import LatentDiffusion
from latdiff_core.evaluation import evaluate
from latdiff_core.paths import write_text

SEED = 0
FORMATS = {"cells": ",.0f", "genes": ",.0f", "counts per cell": ",.0f", "held-out nats": ",.1f", "MMD² - floor": ".4f"}
"""Of the columns whose values are no shares."""


def scores(
    train: anndata.AnnData, test: anndata.AnnData, overrides: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Scores of one generated cell per held-out one, by column of the table."""
    overrides = {"training.seed": SEED, **(overrides or {})}
    model = LatentDiffusion.from_recipe("default", [LABEL], overrides).fit(train, progress=False)
    cells = model.generate(conditions=test.obs[[LABEL]], seed=SEED)
    found = evaluate(test, cells, train, [LABEL], seed=SEED, splits=SPLITS).table
    ours, real = found["generated"].astype(float), found["real"].astype(float)
    return {
        "held-out nats": model.fitted.provenance["metrics"]["autoencoder_val_nll"],
        "W2 / floor": ours["w2"] / real["w2"],
        "MMD² - floor": ours["mmd2"] - real["mmd2"],
        "AUC genes": ours["auc_genes"],
        "AUC PCs": ours["auc_pcs"],
        "labels / real": ours["label_accuracy"] / real["label_accuracy"],
        "nearest": ours["nearest_training"],
        "median library / real": ours["library_median"] / real["library_median"],
    }


def write_page(name: str, title: str, how: str, of: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Write ``results/NAME.csv`` and ``book/NAME.md``, and print the page; ``of`` heads the column of rows' names."""
    found = pd.DataFrame(rows).T
    write_text(RESULTS / f"{name}.csv", found.to_csv(index_label=of, float_format="%.6g"))
    lines = [f"# {title}\n", how, f"| {of} | " + " | ".join(found.columns) + " |", "|---" * (1 + found.shape[1]) + "|"]
    for row, values in found.iterrows():
        lines.append(f"| {row} | " + " | ".join(format(v, FORMATS.get(k, ".3f")) for k, v in values.items()) + " |")
    write_text(BOOK / f"{name}.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
