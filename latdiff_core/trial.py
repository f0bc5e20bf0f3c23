"""A trial of a model: some cells held out, a fit on the others, as many generated and compared, all in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latdiff_core.configs import Overrides, dump_config
from latdiff_core.data import annotation_table, demo_data, open_anndata, write_anndata
from latdiff_core.errors import ConfigError, DataError, RunFolderError, require_seed
from latdiff_core.evaluation import FEWEST_HELD_OUT, Evaluation, evaluate, overview_figure, write_report
from latdiff_core.fitting_to_folder import checkpoints_of, fit_to_folder
from latdiff_core.model import LatentDiffusion
from latdiff_core.paths import refuse_existing, refuse_input, remove
from latdiff_core.ranks import rank_and_world
from latdiff_core.run_folder import MANIFEST, refuse_unless_run
from latdiff_core.splitting import HELD_OUT, TRAIN, split_rows, split_to_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

__all__ = ["Trial", "run_demo", "run_trial"]

RUN, SYNTHETIC = "run", "synthetic.h5ad"
REPORT, FIGURES, OVERVIEW = "report.html", "evaluation.json", "overview.png"
SHARE = 0.3


@dataclass(frozen=True)
class Trial:
    """What a trial made.

    Attributes
    ----------
    model
        Fitted on the cells for training.
    evaluation
        Generated against held-out cells, beside real against real.
    folder
        Holds ``run`` (the model), the cells (``train.h5ad``, ``held_out.h5ad``, ``synthetic.h5ad``), ``report.html``,
        ``evaluation.json`` and ``overview.png``.
    """

    model: LatentDiffusion
    evaluation: Evaluation
    folder: Path


def run_trial(
    model: LatentDiffusion,
    cells: AnnData | str | Path,
    folder: str | Path,
    *,
    share: float = SHARE,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Trial:
    """Hold out cells, fit the model on the others, generate one cell like each held-out one, and compare.

    Parameters
    ----------
    model
        What to fit, such as ``LatentDiffusion.from_recipe("default", ["cell_type"])``.
    cells
        Raw counts, in memory or in a file.
    folder
        For all that is made; see ``Trial``.
    share
        Of the cells that are held out, of every combination of the categories that the model is told of.
    seed
        Of the split, the generated cells and the evaluation; that of training is the config's.
    resume
        Go on with a trial that was interrupted, of the same model, cells, share and seed.
    overwrite
        Replace what an earlier trial has left in the folder.

    Raises
    ------
    OutputExistsError
        If the folder exists and neither ``overwrite`` nor ``resume`` is given, or holds the cells that are given.
    RunFolderError
        If there is no trial to resume, or it is another one.
    DataError
        If the cells cannot be used, fewer than 20 would be held out, or the seed is no whole number from 0 of 32 bits.
    ConfigError
        If the model is to be trained by several processes.
    TrainingInterrupted
        At Ctrl-C during the fit.
    """
    folder = Path(folder)
    training = model.config.training
    if max(training.devices * training.nodes, rank_and_world()[1]) > 1:
        raise ConfigError("a trial is made by one process; fit, generate and evaluate one by one with several")
    require_seed(seed, 0, 2**32)
    refuse_existing(folder, overwrite or resume)
    refuse_unless_run(folder / RUN, overwrite or resume)
    if isinstance(cells, str | Path):
        refuse_input(Path(cells), folder / TRAIN, folder / HELD_OUT, folder / SYNTHETIC)
    told = [*model.config.data.conditions, *model.config.data.nuisance]
    by = [attribute.key for attribute in told if attribute.kind == "categorical"]
    with open_anndata(cells) as given:
        split = split_rows(given, by, share, seed)
        if (held := len(split[HELD_OUT])) < FEWEST_HELD_OUT:
            raise DataError(f"{held} of {given.n_obs} cells would be held out; at least {FEWEST_HELD_OUT} are needed")
        if resume:
            _check_same_cells(folder, {name: given.obs_names[rows] for name, rows in split.items()})
    if not resume:
        for name in (SYNTHETIC, REPORT, FIGURES, OVERVIEW):  # of an earlier trial: not beside this one's cells
            remove(folder / name)
        split_to_folder(cells, folder, by=by, share=share, seed=seed, overwrite=overwrite)
    run, layer = folder / RUN, model.config.data.layer
    if resume and (run / MANIFEST).is_file():
        fitted = LatentDiffusion.load(run)
        if dump_config(fitted.config) != dump_config(model.config):
            raise RunFolderError(f"the model in {run} has another config; repeat the trial exactly, or begin it anew")
        model = fitted
    else:
        going_on = resume and checkpoints_of(run).exists()
        fit_to_folder(model, folder / TRAIN, run, resume=going_on, overwrite=overwrite, progress=progress)
    synthetic = _like(model, folder / HELD_OUT, seed, progress)
    write_anndata(synthetic, folder / SYNTHETIC, overwrite=True)
    evaluation = evaluate(folder / HELD_OUT, synthetic, folder / TRAIN, layer=layer, seed=seed, progress=progress)
    evaluation.save(folder / FIGURES)
    write_report(evaluation, folder / REPORT)
    overview_figure(evaluation).savefig(folder / OVERVIEW)
    return Trial(model, evaluation, folder)


def run_demo(
    folder: str | Path,
    seed: int = 0,
    overrides: Overrides | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Trial:
    """A trial of the default recipe on 700 PBMCs that come with an installed package; errors are those of a trial."""
    require_seed(seed, 0, 2**32)
    model = LatentDiffusion.from_recipe("default", ["cell_type"], {"training.seed": seed, **(overrides or {})})
    return run_trial(model, demo_data(), folder, seed=seed, overwrite=overwrite, progress=progress)


def _check_same_cells(folder: Path, names: dict[str, Sequence[str]]) -> None:
    for file, expected in names.items():
        if not (folder / file).is_file():
            raise RunFolderError(f"{folder} holds no trial to resume: {file} is missing; begin without resuming")
        with open_anndata(folder / file) as there:
            if list(there.obs_names) != list(expected):
                raise RunFolderError(
                    f"{folder / file} holds other cells than this trial would; repeat the trial exactly as it was "
                    "begun, or begin it anew (--overwrite, in Python overwrite=True)"
                )


def _like(model: LatentDiffusion, held_out: Path, seed: int, progress: bool) -> AnnData:
    """A generated cell of the conditions of each held-out one."""
    keys = list(model.fitted.schema.keys)
    with open_anndata(held_out) as cells:
        n, table = cells.n_obs, annotation_table(cells, keys)[keys]
    return model.generate(n, table if keys else None, seed=seed, progress=progress)
