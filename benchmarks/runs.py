"""One run of a benchmark: fit, generate, evaluate, leave a JSON that later calls repeat only if the recipe changed."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from generators import Generator
from splits import LABEL, load_split

from latdiff_core.evaluation import evaluate
from latdiff_core.paths import write_text

RESULTS = Path(__file__).parent / "results"
MODELS, CELLS = RESULTS / "models", RESULTS / "cells"
BOOK = Path(__file__).parent.parent / "book"
SPLITS = 5


def run_once(name: str, generator: Generator, data: Path, seed: int, folder: Path, threads: int) -> None:
    """Write ``folder/DATA-NAME-SEED.json`` with config, times, parameters and every score, and keep the cells.

    A run that is there is not repeated, unless its recipe's config or what scVI is told has changed since.
    """
    path = folder / f"{data.stem}-{name.replace(' ', '_')}-{seed}.json"
    if path.exists() and not is_outdated(path, generator, seed):
        return
    print(f"{data.stem} {name} seed {seed}", flush=True)
    torch.set_num_threads(threads)
    train, test = load_split(data)
    generated = generator(train, test.obs[LABEL], seed)
    kept = CELLS / folder.name / f"{path.stem}.h5ad"
    kept.parent.mkdir(parents=True, exist_ok=True)
    generated.cells.write_h5ad(kept)
    found = evaluate(test, generated.cells, train, [LABEL], seed=seed, splits=SPLITS)
    evaluation = {key: part for key, part in json.loads(found.to_json()).items() if key != "worst_genes"}
    document = {
        "generator": name, "data": data.stem, "seed": seed, "threads": threads,
        "fit_seconds": round(generated.fit_seconds, 1), "generate_seconds": round(generated.generate_seconds, 1),
        "parameters": generated.parameters, "metrics": generated.metrics, "torch": torch.__version__,
        "config": generated.settings or generated.cells.uns["latdiff"]["config"], "evaluation": evaluation,
    }  # fmt: skip
    write_text(path, json.dumps(document, indent=1) + "\n")


def is_outdated(path: Path, generator: Generator, seed: int) -> bool:
    """Whether a run would be made in another way today: by another config, whatever it says in words."""
    return not generator.is_current(json.loads(path.read_text())["config"], seed)
