"""Whether `torch.compile` gains anything on this machine: `python benchmarks/compiled.py --data FOLDER`.

Each piece of work as it is and compiled, in turn and in one process: a training step of stage 1 (the NB of `speed.py`,
and the default recipe), one of stage 2, and the sampling of latents, all of pbmc3k; stage 2 also with its kernels
recorded once and replayed (`reduce-overhead`, CUDA graphs) where there is a GPU. Printed are medians, and how long the
first compiled calls took.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
from speed_models import BATCH, NB, Stage1, training_step
from speed_scale import run_folder
from timing import name_of, once, seconds

from latdiff_core import LatentDiffusion
from latdiff_core.cpu import tuned_cpu
from latdiff_core.device import chosen_device

Work = Callable[[], Any]
BATCHES, ROUNDS, REPEATS = 8, 5, 9
"""Batches differ in their stored entries, so what is compiled must take any number of them."""
LATENTS = 256


def stage_1(cells: anndata.AnnData, overrides: dict[str, Any], device: torch.device, compiled: bool) -> Work:
    """A training step of stage 1, with its whole loss compiled."""
    stage = Stage1(cells, overrides)
    model = stage.build().to(device)
    batches = cycle([stage.data[list(range(k * BATCH, (k + 1) * BATCH))].to(device) for k in range(BATCHES)])
    loss = torch.compile(stage.loss(model)) if compiled else stage.loss(model)

    def of_next() -> torch.Tensor:
        batch = next(batches)
        return loss(batch.counts, batch.covariates)

    return training_step(model, of_next, stage.config.training.autoencoder.gradient_clip)


def stage_2(model: LatentDiffusion, device: torch.device, mode: str | None) -> tuple[Work, Work]:
    """A training step of stage 2, and the sampling of latents, with the network compiled."""
    diffusion = copy.deepcopy(model.fitted.diffusion).requires_grad_(True).to(device)
    if mode:
        diffusion.denoiser = torch.compile(diffusion.denoiser, mode=mode)
    conditions = model.fitted.training_cells.conditions[np.arange(LATENTS)].to(device)
    x = torch.randn(LATENTS, diffusion.dim, device=device)
    clip = model.config.training.diffusion.gradient_clip
    diffusion.train()

    def loss() -> torch.Tensor:
        return diffusion.loss(x, conditions, diffusion.draw(conditions).to(device)).mean()

    return training_step(diffusion, loss, clip), lambda: diffusion.sample(conditions)


def compare(name: str, eager: Work, compiled: Work) -> None:
    """Print how long both take."""
    first = once(lambda: [compiled() for _ in range(BATCHES + 1)])
    times = np.median([[seconds(work, REPEATS) for work in (eager, compiled)] for _ in range(ROUNDS)], axis=0)
    was, now = 1e3 * times
    print(f"{name}: {was:.1f} ms, compiled {now:.1f} ms ({was / now:.2f}), first {BATCHES + 1} calls {first:.0f} s")


def main() -> None:
    """Compare all four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stages", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.compiler.config.force_disable_caches = True  # of earlier calls of this script
    device = chosen_device(arguments.accelerator)
    print(f"{name_of(arguments.accelerator)}, {arguments.threads} threads")
    cells = anndata.read_h5ad(arguments.data / "pbmc3k.h5ad")
    model = LatentDiffusion.load(run_folder(arguments.data, None))
    with tuned_cpu(device):
        if 1 in arguments.stages:
            for name, overrides in (("NB", NB), ("default recipe", {})):
                compare(f"a step of stage 1, {name}", *(stage_1(cells, overrides, device, c) for c in (False, True)))
        if 2 in arguments.stages:
            for mode in ("default", "reduce-overhead") if device.type == "cuda" else ("default",):
                steps, samples = zip(*(stage_2(model, device, m) for m in (None, mode)), strict=True)
                compare(f"a step of stage 2, {mode}", *steps)
                compare(f"sampling {LATENTS} latents, {mode}", *samples)


if __name__ == "__main__":
    main()
