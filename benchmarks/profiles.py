"""Where the time of a training step and of generation goes: `python benchmarks/profiles.py --data FOLDER`.

Printed are torch's profiler's self times, by operator and shapes, of ten steps of stage 1 (the NB of `speed.py`, and
the default recipe) and of stage 2, and of 1,024 generated cells, all of pbmc3k. Beside each is its floor: its matrix
products at the speed of the decoder's, and the bytes that it cannot but move at the speed of a copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import torch
from compiled import stage_2
from speed_models import BATCH, HIDDEN, NB, Stage1, objective, training_step
from speed_scale import run_folder
from speed_works import gemm_floor
from timing import name_of, seconds
from torch import nn
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from latdiff_core import LatentDiffusion
from latdiff_core.cpu import tuned_cpu
from latdiff_core.device import chosen_device

STEPS, CELLS, ROWS = 10, 1024, 25
OF_WEIGHTS = 8
"""Times that a step passes over all weights: AdamW reads them, their gradients and two moments of these, and writes all
but the gradients; clipping reads those once more."""
OF_GENES = 2
"""Times that it passes over (batch, genes) beyond the products: the likelihood reads, and writes a gradient."""
COPIED = 2**26


@dataclass(frozen=True)
class Machine:
    """What a machine can do.

    Attributes
    ----------
    flops
        Floating-point operations per second, of the decoder's products.
    bandwidth
        Bytes per second, read or written, of a copy.
    """

    flops: float
    bandwidth: float

    @classmethod
    def measured(cls, genes: int, device: torch.device) -> Machine:
        """This one."""
        source = torch.zeros(COPIED, device=device)
        target = torch.zeros_like(source)
        copying = seconds(lambda: target.copy_(source))
        return cls(3 * 2 * BATCH * HIDDEN * genes / gemm_floor(genes, device), 2 * 4 * COPIED / copying)

    def floor(self, work: Callable[[], Any], moved: float) -> tuple[float, float]:
        """Seconds of the products of a call, and of moving so many bytes."""
        with FlopCounterMode(display=False) as counted:
            work()
        return counted.get_total_flops() / self.flops, moved / self.bandwidth


def first_step(
    cells: anndata.AnnData, overrides: dict[str, Any], device: torch.device
) -> tuple[Callable[[], None], float]:
    """One step of stage 1 on the first batch, and the bytes that it moves."""
    stage = Stage1(cells, overrides)
    module, batch = stage.stage(stage.build()).to(device), stage.data[list(range(BATCH))].to(device)
    moved = _of_weights(module) + 4 * OF_GENES * BATCH * cells.n_vars
    return training_step(module, objective(module, [batch]), module.gradient_clip), moved


def _of_weights(module: nn.Module) -> float:
    return 4 * OF_WEIGHTS * sum(parameter.numel() for parameter in module.parameters())


def show(
    title: str, work: Callable[[], Any], moved: float, repeats: int, machine: Machine, device: torch.device
) -> None:
    """Print the median time of a call, its floor, and the profile of several."""
    median = seconds(work, repeats)
    products, memory = machine.floor(work, moved)
    with profile(record_shapes=True) as found:
        for _ in range(repeats):
            work()
    table = found.key_averages(group_by_input_shape=True).table(
        sort_by=f"self_{device.type}_time_total",
        row_limit=ROWS,
        max_name_column_width=32,
        max_shapes_column_width=60,
    )
    times, floor = median / (products + memory), f"{1e3 * products:.1f} ms of products and {1e3 * memory:.1f} ms"
    print(f"{title}: {1e3 * median:.1f} ms, {times:.1f} times its floor ({floor} to move {moved / 1e6:,.0f} MB)")
    print(f"the profile of {repeats}:\n{table}")


def main() -> None:
    """Profile training steps of both stages, and generation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = chosen_device(arguments.accelerator)
    cells = anndata.read_h5ad(arguments.data / "pbmc3k.h5ad")
    model = LatentDiffusion.load(run_folder(arguments.data, None))
    machine = Machine.measured(cells.n_vars, device)
    print(
        f"{name_of(arguments.accelerator)}, {arguments.threads} threads: products {machine.flops / 1e9:,.0f} GFLOP/s, "
        f"a copy {machine.bandwidth / 1e9:.1f} GB/s"
    )
    with tuned_cpu(device):
        for name, overrides in (("NB", NB), ("default recipe", {})):
            show(f"a step of stage 1, {name}", *first_step(cells, overrides, device), STEPS, machine, device)
        step, _ = stage_2(model, device, compiled=False)
        show("a step of stage 2", step, _of_weights(model.fitted.diffusion), STEPS, machine, device)
    # A logarithm of a mean is read, an eighth of a random number written and read, for each count.
    moved = 6.0 * CELLS * cells.n_vars
    work = partial(model.generate, CELLS, accelerator=arguments.accelerator)
    show(f"generation of {CELLS} cells", work, moved, 3, machine, device)


if __name__ == "__main__":
    main()
