"""How close generated cells are to real ones: `python benchmarks/quality.py --data FOLDER`.

Every generator on every data set with every seed: fit on 70 % of the cells, one cell generated per held-out label, both
evaluated by `latdiff_core.evaluation`. Each run leaves a JSON in `benchmarks/results/quality`, with its config, times,
parameters and every score beside its floor; a run that is there already is not repeated, so the command can be stopped
at any time and called again. Several processes with different `--generators` may share the folder. At the end the table
of all results is printed and written to `benchmarks/results/quality.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from generators import GENERATORS
from quality_table import quality_table
from splits import DATA_SETS, load_split

from latdiff_core.data.files import write_text
from latdiff_core.evaluation import evaluate

RESULTS = Path(__file__).parent / "results"


def run(generator: str, data: Path, seed: int, path: Path) -> None:
    """One row: fit, generate, evaluate, write."""
    label = DATA_SETS[data.stem][0]
    train, test = load_split(data, label)
    generated = GENERATORS[generator](train, test.obs[label], seed)
    found = evaluate(test, generated.cells, train, [label], seed=seed)
    document = {
        "generator": generator, "data": data.stem, "seed": seed, "threads": torch.get_num_threads(),
        "fit_seconds": round(generated.fit_seconds, 1), "generate_seconds": round(generated.generate_seconds, 1),
        "parameters": generated.parameters, "torch": torch.__version__,
        "config": generated.cells.uns.get("latdiff", {}).get("config"), "evaluation": json.loads(found.to_json()),
    }  # fmt: skip
    write_text(path, json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--sets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument("--generators", nargs="+", default=list(GENERATORS), choices=GENERATORS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for generator in arguments.generators:
            for name in arguments.sets:
                path = RESULTS / "quality" / f"{name}-{generator}-{seed}.json"
                if not path.exists():
                    print(f"{name} {generator} seed {seed}", flush=True)
                    run(generator, arguments.data / f"{name}.h5ad", seed, path)
    table = quality_table(RESULTS / "quality")
    write_text(RESULTS / "quality.md", table)
    print(table)


if __name__ == "__main__":
    main()
