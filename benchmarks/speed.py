"""How fast latdiff is, beside what it is compared with: `python benchmarks/speed.py --data FOLDER`.

Every row is measured in a process of its own, both sides in one run, on the stated number of threads; figures are
medians of repeats. Rows that are there are not measured again: `benchmarks/results/speed/NAME.json`. All become
`book/speed.md`. `--works` chooses rows, `--again` measures them anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from runs import BOOK, RESULTS
from speed_works import CPU_ONLY, WORKS
from timing import name_of

from latdiff_core.paths import write_text

FOLDERS = {"cpu": RESULTS / "speed", "gpu": RESULTS / "speed_gpu"}
HEADINGS = ("work", "threads", "latdiff", "against", "ratio", "to reach")
HOW = """Printed by `benchmarks/speed.py`: every row in a process of its own, both sides in one run, medians of repeats
(many cells to a file and training from disk: one run each).
The GEMM floor of a training step is the time of the decoder's three matrix products alone: forward, gradient of the
input, gradient of the weights."""


def measure(work: str, data: Path, threads: int, accelerator: str) -> None:
    """Measure the rows of one work in this process, and write each to its JSON as soon as it is there."""
    torch.set_num_threads(threads)
    document: dict[str, Any] = {"work": work, "threads": threads, "on": name_of(accelerator)}
    document |= {"torch": torch.__version__, "finished": False, "rows": []}
    for row in WORKS[work](data, accelerator):
        document["rows"].append(row)
        _write(document, accelerator)
    _write({**document, "finished": True}, accelerator)


def _write(document: dict[str, Any], accelerator: str) -> None:
    write_text(FOLDERS[accelerator] / f"{document['work']}.json", json.dumps(document, indent=1) + "\n")


def is_finished(work: str, accelerator: str) -> bool:
    """Whether all rows of a work were measured."""
    path = FOLDERS[accelerator] / f"{work}.json"
    return path.is_file() and bool(json.loads(path.read_text()).get("finished", True))


def write_table() -> None:
    """The page of the book, from the JSON of every row, and print it."""
    tables = [["# Speed\n", HOW]]
    for accelerator, folder in FOLDERS.items():
        documents = [json.loads(path.read_text()) for work in WORKS if (path := folder / f"{work}.json").is_file()]
        if documents:
            named = " and ".join(sorted({document["on"] for document in documents if "on" in document}))
            tables.append([f"## On a {named if accelerator == 'gpu' else 'CPU'}\n", *_table(documents)])
    page = "\n\n".join("\n".join(lines) for lines in tables) + "\n"
    write_text(BOOK / "speed.md", page)
    print(page)


def _table(documents: list[dict[str, Any]]) -> Iterator[str]:
    yield _line(HEADINGS)
    yield "|---" * len(HEADINGS) + "|"
    for document in documents:
        for row in document["rows"]:
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
            values = {**row, "threads": document["threads"], "ratio": ratio}
            yield _line([str(values.get(heading, "")) for heading in HEADINGS])


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure what is missing, each in its own process; then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu", choices=list(FOLDERS))
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for work in arguments.works:
        if arguments.accelerator == "gpu" and work in CPU_ONLY:
            continue
        if arguments.here:
            measure(work, arguments.data, arguments.threads, arguments.accelerator)
        elif arguments.again or not is_finished(work, arguments.accelerator):
            print(work, flush=True)
            command = [sys.executable, __file__, "--data", arguments.data, "--works", work, "--here"]
            command += ["--threads", arguments.threads, "--accelerator", arguments.accelerator]
            subprocess.run([*map(str, command)], check=True)
    if not arguments.here:
        write_table()


if __name__ == "__main__":
    main()
