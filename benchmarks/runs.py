"""One run of a benchmark: fit, generate, evaluate, leave a JSON that later calls do not repeat."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from generators import Generator
from splits import LABEL, load_split

from latdiff_core.data.files import write_text
from latdiff_core.evaluation import evaluate

RESULTS = Path(__file__).parent / "results"
BOOK = Path(__file__).parent.parent / "book"
SPLITS = 5


def run_once(name: str, generator: Generator, data: Path, seed: int, folder: Path, threads: int) -> None:
    """Write ``folder/DATA-NAME-SEED.json`` with config, times, parameters and every score, unless it is there."""
    path = folder / f"{data.stem}-{name.replace(' ', '_')}-{seed}.json"
    if path.exists():
        return
    print(f"{data.stem} {name} seed {seed}", flush=True)
    torch.set_num_threads(threads)
    train, test = load_split(data)
    generated = generator(train, test.obs[LABEL], seed)
    found = evaluate(test, generated.cells, train, [LABEL], seed=seed, splits=SPLITS)
    evaluation = {key: part for key, part in json.loads(found.to_json()).items() if key != "worst_genes"}
    document = {
        "generator": name, "data": data.stem, "seed": seed, "threads": threads,
        "fit_seconds": round(generated.fit_seconds, 1), "generate_seconds": round(generated.generate_seconds, 1),
        "parameters": generated.parameters, "metrics": generated.metrics, "torch": torch.__version__,
        "config": generated.cells.uns.get("latdiff", {}).get("config"), "evaluation": evaluation,
    }  # fmt: skip
    write_text(path, json.dumps(document, indent=1) + "\n")
