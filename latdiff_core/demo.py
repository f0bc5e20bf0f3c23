"""The demo: real cells that ship with an installed package, fitted, generated and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latdiff_core.configs import Overrides
from latdiff_core.data import demo_data, stratified_split, write_anndata
from latdiff_core.errors import require_seed
from latdiff_core.evaluation import Evaluation, evaluate, overview_figure, write_report
from latdiff_core.model import LatentDiffusion
from latdiff_core.paths import refuse_existing

HELD_OUT = 0.3


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes
    ----------
    evaluation
        Generated against held-out cells, beside real against real.
    folder
        Holds ``run`` (the model), the cells (``train.h5ad``, ``held_out.h5ad``, ``synthetic.h5ad``), ``report.html``,
        ``evaluation.json`` and ``overview.png``.
    """

    evaluation: Evaluation
    folder: Path


def run_demo(
    folder: Path,
    seed: int = 0,
    overrides: Overrides | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> DemoResult:
    """Fit on 70 % of 700 PBMCs, generate as many cells of each type as were held out, compare.

    Raises
    ------
    OutputExistsError
        If the folder exists and ``overwrite`` is not given.
    DataError
        If the seed is no whole number from 0 of 32 bits.
    """
    refuse_existing(folder, overwrite)
    require_seed(seed, 0, 2**32)
    cells = demo_data()
    train_index, test_index = stratified_split(cells.obs["cell_type"].astype(str).to_numpy(), HELD_OUT, seed)
    train, held_out = cells[train_index].copy(), cells[test_index].copy()
    model = LatentDiffusion.from_recipe("default", ["cell_type"], {"training.seed": seed, **(overrides or {})})
    model.fit(train, progress=progress)
    synthetic = model.generate(conditions=held_out.obs[["cell_type"]], seed=seed, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "run", overwrite=True)
    for name, adata in (("synthetic", synthetic), ("held_out", held_out), ("train", train)):
        write_anndata(adata, folder / f"{name}.h5ad", overwrite=True)
    evaluation = evaluate(held_out, synthetic, train, ["cell_type"], seed=seed, progress=progress)
    evaluation.save(folder / "evaluation.json")
    write_report(evaluation, folder / "report.html")
    overview_figure(evaluation).savefig(folder / "overview.png")
    return DemoResult(evaluation, folder)
