"""Where the time of a training step and of generation goes: `python benchmarks/profiles.py --data FOLDER`.

Printed are torch's profiler's self times, by operator and shapes, of ten steps of stage 1 (the NB of `speed.py`, and
the default recipe) and of 1,024 generated cells, all of pbmc3k; and the floor of a step, the decoder's matrix
products alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import torch
from speed_models import BATCH, NB, Stage1, objective, training_step
from speed_scale import run_folder
from speed_works import gemm_floor
from timing import name_of, seconds
from torch.profiler import profile

from latdiff_core import LatentDiffusion
from latdiff_core.cpu import tuned_cpu
from latdiff_core.device import chosen_device

STEPS, CELLS, ROWS = 10, 1024, 25


def first_step(cells: anndata.AnnData, overrides: dict[str, Any], device: torch.device) -> Callable[[], None]:
    """One step of stage 1 on the first batch."""
    stage = Stage1(cells, overrides)
    module, batch = stage.stage(stage.build()).to(device), stage.data[list(range(BATCH))].to(device)
    return training_step(module, objective(module, [batch]), module.gradient_clip)


def show(title: str, work: Callable[[], Any], repeats: int, device: torch.device) -> None:
    """Print the median time of a call, and the profile of several."""
    median = seconds(work, repeats)
    with profile(record_shapes=True) as found:
        for _ in range(repeats):
            work()
    table = found.key_averages(group_by_input_shape=True).table(
        sort_by=f"self_{device.type}_time_total",
        row_limit=ROWS,
        max_name_column_width=32,
        max_shapes_column_width=60,
    )
    print(f"{title}: {1e3 * median:.1f} ms; the profile is of {repeats}\n{table}")


def main() -> None:
    """Profile both kinds of training steps, and generation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = chosen_device(arguments.accelerator)
    cells = anndata.read_h5ad(arguments.data / "pbmc3k.h5ad")
    print(f"{name_of(arguments.accelerator)}, {arguments.threads} threads")
    print(f"matrix products of a decoder's step: {1e3 * gemm_floor(cells.n_vars, device):.2f} ms")
    with tuned_cpu(device):
        show("a step of stage 1, NB", first_step(cells, NB, device), STEPS, device)
        show("a step of stage 1, default recipe", first_step(cells, {}, device), STEPS, device)
    model = LatentDiffusion.load(run_folder(arguments.data, None))
    show(f"generation of {CELLS} cells", lambda: model.generate(CELLS, accelerator=arguments.accelerator), 3, device)


if __name__ == "__main__":
    main()
