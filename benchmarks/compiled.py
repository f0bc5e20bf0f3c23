"""Whether `training.compile` gains anything on this machine: `python benchmarks/compiled.py --data FOLDER`.

Each piece of work as it is and compiled, in turn and in one process: a training step of stage 1 (the NB of `speed.py`,
and the default recipe) and one of stage 2, compiled as `training.compile` has them, and the sampling of latents, which
it leaves alone; all of pbmc3k. Printed are medians, and how long the first compiled calls took.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
from speed_models import BATCH, NB, Stage1, objective, training_step
from speed_scale import run_folder
from timing import name_of, once, seconds

from latdiff_core import LatentDiffusion
from latdiff_core.cpu import tuned_cpu
from latdiff_core.device import chosen_device
from latdiff_core.training.modules import DiffusionStage

Work = Callable[[], Any]
BATCHES, ROUNDS, REPEATS = 8, 5, 9
"""Batches differ in their stored entries, so what is compiled must take any number of them."""
LATENTS = 256


def stage_1(cells: anndata.AnnData, overrides: dict[str, Any], device: torch.device, compiled: bool) -> Work:
    """A training step of stage 1."""
    stage = Stage1(cells, {**overrides, "training.compile": compiled})
    module = stage.stage(stage.build()).to(device)
    batches = [stage.data[list(range(k * BATCH, (k + 1) * BATCH))].to(device) for k in range(BATCHES)]
    return training_step(module, objective(module, batches), module.gradient_clip)


def stage_2(model: LatentDiffusion, device: torch.device, compiled: bool) -> tuple[Work, Work]:
    """A training step of stage 2, and the sampling of latents, whose network is compiled."""
    training = copy.deepcopy(model.fitted.diffusion).requires_grad_(True).to(device)
    module = DiffusionStage(training, model.config.training.diffusion, seed=0, compiled=compiled)
    module.setup("fit")
    sampling = copy.deepcopy(model.fitted.diffusion).to(device)
    if compiled:
        sampling.denoiser = torch.compile(sampling.denoiser)
    conditions = model.fitted.training_cells.conditions[np.arange(LATENTS)].to(device)
    x = torch.randn(LATENTS, training.dim, device=device)

    def loss() -> torch.Tensor:
        return module.objective(x, conditions, training.draw(conditions).to(device))

    return training_step(module, loss, module.gradient_clip), lambda: sampling.sample(conditions)


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
            steps, samples = zip(*(stage_2(model, device, c) for c in (False, True)), strict=True)
            compare("a step of stage 2", *steps)
            compare(f"sampling {LATENTS} latents", *samples)


if __name__ == "__main__":
    main()
