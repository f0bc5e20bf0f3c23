"""The rows of `speed.py` that make many cells or read many: each side in a process of its own, for its peak memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import torch
from generators import Recipe
from runs import MODELS
from timing import once

from latdiff_core import LatentDiffusion
from latdiff_core.assembly import build_autoencoder
from latdiff_core.conditions import Annotations
from latdiff_core.configs import recipe_config
from latdiff_core.cpu import tuned_cpu
from latdiff_core.data import annotation_table, build_schema, encode_obs, gene_statistics, open_counts, read_through
from latdiff_core.device import Accelerator, chosen_device
from latdiff_core.interfaces import CountDistribution
from latdiff_core.training import CellData
from latdiff_core.training.fit import training_batches
from latdiff_core.training.modules import AutoencoderStage
from latdiff_core.training.stage import run_stage
from latdiff_counts.sparse_distribution import SparseCountDistribution

Row = dict[str, Any]
SHORT = {
    "training.autoencoder": {"epochs": 3, "min_steps": 100, "learning_rate": 2e-3},
    "training.diffusion": {"steps": 200, "checks": 1},
}
"""Speed does not depend on how well a model is trained."""
STREAMED = {".zarr": (10_000, 100_000, 1_000_000), ".h5ad": (10_000, 100_000)}
GENERATED = {"cpu": 10_000, "gpu": 50_000}
REPEATS = {"cpu": 5, "gpu": 3}
"""Of both sides of `generation` in turn, and of the short side of `streaming` before and after the long one."""
DISK_CELLS, DISK_GENES, DISK_SHARE, CHUNK = 500_000, 2000, 0.05, 10_000


def run_folder(data: Path, genes: int | None) -> Path:
    """A model of pbmc3k, of all genes or of the most abundant ones, fitted briefly and kept."""
    folder = MODELS / f"speed-{genes}"
    cells = anndata.read_h5ad(data / "pbmc3k.h5ad")
    if genes is not None:
        totals = np.asarray(cells.X.sum(0)).ravel()
        cells = cells[:, np.sort(np.argsort(-totals)[:genes])].copy()
    Recipe("default", SHORT).fitted(cells, folder)
    return folder


def generation(data: Path, accelerator: Accelerator) -> list[Row]:
    """Cells of all genes, on a CPU against a dense decoder; a GPU decodes densely."""
    folder, cells = run_folder(data, None), GENERATED[accelerator]
    genes = len(LatentDiffusion.load(folder).fitted.schema.genes)
    ways = {"cpu": (False, True), "gpu": (False,)}[accelerator]
    sides = [(str(folder), cells, dense, accelerator) for dense in ways]
    repeats = [[_alone(_generate, *side) for side in sides] for _ in range(REPEATS[accelerator])]
    ours, *dense = map(_median, zip(*repeats, strict=True))
    work = f"generation, {cells:,} cells x {genes:,} genes, end to end"
    if not dense:
        return [{"work": work, "latdiff": _figures(ours), "against": "CFGen's authors: about 13,500 cells/s"}]
    return [_beside(work, ours, "dense decoding", dense[0], ">= 3, under 2,000 MB")]


def streaming(data: Path, accelerator: Accelerator) -> list[Row]:
    """More cells to a file, against fewer, made before and after: a machine's speed changes within minutes."""
    folder = str(run_folder(data, DISK_GENES))
    rows = []
    for suffix, (first, *larger) in STREAMED.items():
        few = partial(_alone, _generate_to, folder, first, suffix, accelerator)
        for n in larger:
            before = [few() for _ in range(REPEATS[accelerator])]
            many = _alone(_generate_to, folder, n, suffix, accelerator)
            after = [few() for _ in range(REPEATS[accelerator])]
            work = f"generation of {n:,} cells x {DISK_GENES:,} genes to {suffix}"
            rows += [_beside(work, many, f"{first:,} cells", _median(before + after), "0.9 to 1.1, memory too")]
    return rows


def out_of_core(data: Path, accelerator: Accelerator) -> list[Row]:
    """One epoch of stage 1 from disk, against memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        write_synthetic(path)
        on_disk, in_memory = (_alone(_epoch, str(path), place, accelerator) for place in (True, False))
    work = f"stage 1 on {DISK_CELLS:,} cells x {DISK_GENES:,} genes on disk"
    return [_beside(work, on_disk, "in memory", in_memory, ">= 0.8, under 2,000 MB")]


def _median(runs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Of the figure and of the memory."""
    rate, memory = map(statistics.median, zip(*runs, strict=True))
    return rate, memory


def _beside(work: str, ours: tuple[float, float], whom: str, theirs: tuple[float, float], target: str) -> Row:
    """A row of cells per second and peak memory in MB, of both sides."""
    against, ratio = f"{whom}: {_figures(theirs)}", ours[0] / theirs[0]
    return {"work": work, "latdiff": _figures(ours), "against": against, "ratio": ratio, "to reach": target}


def _figures(run: tuple[float, float]) -> str:
    rate, memory = run
    return f"{rate:,.0f} cells/s, {memory:,.0f} MB"


def write_synthetic(path: Path) -> None:
    """Cells of ten kinds, sorted by kind, uncompressed and written piece by piece."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(10), DISK_CELLS // 10)
    obs = pd.DataFrame({"cell_type": pd.Categorical(kinds.astype(str))}, index=np.arange(DISK_CELLS).astype(str))
    var = pd.DataFrame(index=[f"g{i}" for i in range(DISK_GENES)])
    anndata.AnnData(obs=obs, var=var).write_h5ad(path)
    with h5py.File(path, "a") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array([DISK_CELLS, DISK_GENES])
        per_cell = round(DISK_GENES * DISK_SHARE)
        group["indptr"] = np.arange(DISK_CELLS + 1, dtype=np.int64) * per_cell
        values = group.create_dataset("data", (DISK_CELLS * per_cell,), np.float32)
        indices = group.create_dataset("indices", (DISK_CELLS * per_cell,), np.int32)
        profiles = rng.gamma(0.5, size=(10, DISK_GENES)) + 0.01
        for start in range(0, DISK_CELLS, CHUNK):
            keys = rng.random((CHUNK, DISK_GENES), np.float32) ** (1 / profiles[kinds[start : start + CHUNK]])
            genes = np.sort(np.argpartition(-keys, per_cell, axis=1)[:, :per_cell], axis=1)
            span = slice(start * per_cell, (start + CHUNK) * per_cell)
            indices[span] = genes.ravel()
            values[span] = 1 + rng.geometric(0.6, CHUNK * per_cell)


def _generate(folder: str, n: int, dense: bool, accelerator: Accelerator) -> float:
    """Cells per second in memory."""
    if dense:
        SparseCountDistribution.sample_csr = CountDistribution.sample_csr
    model = LatentDiffusion.load(folder)
    model.generate(512, accelerator=accelerator)
    return n / once(lambda: model.generate(n, accelerator=accelerator))


def _generate_to(folder: str, n: int, suffix: str, accelerator: Accelerator) -> float:
    """Cells per second to a file."""
    model = LatentDiffusion.load(folder)
    with tempfile.TemporaryDirectory() as out:
        model.generate_to(Path(out) / f"first{suffix}", 512, accelerator=accelerator)  # and load what writes
        return n / once(lambda: model.generate_to(Path(out) / f"cells{suffix}", n, accelerator=accelerator))


def _epoch(path: str, on_disk: bool, accelerator: Accelerator) -> float:
    """Cells per second of one epoch of stage 1, after everything that precedes it in a fit."""
    config = recipe_config("default", ["cell_type"], {"training.accelerator": accelerator})
    section = config.training.autoencoder
    with (
        open_counts(path, None, [], on_disk) as (cells, counts),
        tempfile.TemporaryDirectory() as folder,
        tuned_cpu(chosen_device(accelerator)),
    ):
        table = annotation_table(cells, ["cell_type"])
        schema = build_schema(cells.var_names, table, config.data)
        annotations = Annotations(encode_obs(table, schema.attributes), encode_obs(table, schema.nuisance))
        read_through(counts, schema, annotations)
        train = np.arange(len(table))
        model = build_autoencoder(config, schema, gene_statistics(counts, train))
        batches = training_batches(CellData(counts, annotations, schema), train, section.batch_size, 0)
        stage = AutoencoderStage(model, section, cells=len(train))
        options = {"config": config.training, "epochs": 1, "ema_decay": 0.0, "progress": False}
        return len(train) / once(lambda: run_stage(stage, "stage 1", batches, None, folder=Path(folder), **options))


def _alone(function: Callable[..., float], *arguments: Any) -> tuple[float, float]:
    """A function's figure and the peak memory of the process that it had to itself, in MB."""
    call = json.dumps([function.__name__, arguments, torch.get_num_threads()])
    done = subprocess.run([sys.executable, __file__, call], check=True, capture_output=True, text=True)
    figure, memory = json.loads(done.stdout.splitlines()[-1])
    return figure, memory


if __name__ == "__main__":
    name, given, threads = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    result = globals()[name](*given)
    # Not getrusage's maximum, which begins at what the parent process had.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps([result, int(status["VmHWM"].split()[0]) / 1000]))
