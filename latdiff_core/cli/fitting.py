"""``latdiff fit``: a run folder at the end, resumable checkpoints beside it until then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import typer

from latdiff_core.configs import parse_override
from latdiff_core.errors import ConfigError, OutputExistsError, TrainingDiverged, TrainingInterrupted
from latdiff_core.model import LatentDiffusion, best_row
from latdiff_core.paths import remove, worked_in_alone
from latdiff_core.ranks import is_first
from latdiff_core.run_folder import MANIFEST, refuse_unless_checkpoints, refuse_unless_run
from latdiff_core.sparse_product import goes_sparse


def fit_to_folder(
    data: Path,
    out: Path,
    *,
    conditions: Sequence[str],
    nuisance: Sequence[str],
    recipe: str | None,
    config: Path | None,
    layer: str | None,
    sets: Sequence[str],
    training: Mapping[str, object],
    resume: bool,
    on_disk: bool,
    overwrite: bool,
) -> None:
    """Fit and save; checkpoints are in ``OUT.checkpoints`` until the run folder is complete.

    Raises
    ------
    OutputExistsError
        If ``OUT`` is there and may not be replaced, something else stands where checkpoints go, or another process
        trains there.
    TrainingDiverged
        If a loss is no number any more; the checkpoints are then removed.
    TrainingInterrupted
        At Ctrl-C, saying how to resume.
    """
    out = out if out.name else out.resolve()  # "." has no name
    checkpoints = out.with_name(f"{out.name}.checkpoints")
    if resume and not overwrite and (out / MANIFEST).is_file() and not checkpoints.exists():
        raise OutputExistsError(f"{out} is finished: there is nothing to resume")
    refuse_unless_run(out, overwrite)
    if is_first():
        refuse_unless_checkpoints(checkpoints)
    overrides = dict(map(parse_override, sets)) | dict(training)
    if layer is not None:
        overrides["data.layer"] = layer
    asked = [_attribute("--condition", text) for text in conditions]
    unwanted = [_attribute("--nuisance", text) for text in nuisance]
    if config is not None and recipe is not None:
        raise ConfigError("give --config or --recipe, not both: a config is a whole model already")
    if config is None:
        model = LatentDiffusion.from_recipe(recipe or "default", asked, overrides, unwanted)
    else:
        if asked:
            overrides["data.conditions"] = asked
        if unwanted:
            overrides["data.nuisance"] = unwanted
        model = LatentDiffusion.from_config(config, overrides)
    if overwrite and not resume and checkpoints.exists() and is_first():
        with worked_in_alone(checkpoints):
            remove(checkpoints)
    try:
        model.fit(data, checkpoints=checkpoints, resume=resume, on_disk=on_disk)
    except TrainingDiverged:
        if is_first():
            remove(checkpoints)  # of a fit that is to be begun anew, with another config
        raise
    except TrainingInterrupted:
        raise TrainingInterrupted(
            f"interrupted; what was trained is in {checkpoints}. To go on, repeat the same command with --resume"
        ) from None
    model.save(out, overwrite=overwrite)
    if is_first():
        remove(checkpoints)
        _report(model, out)


def _attribute(option: str, text: str) -> dict[str, str]:
    key, _, kind = text.rpartition(":")
    if not key:
        return {"kind": "categorical", "key": text}
    if kind not in ("categorical", "continuous", "vector"):
        raise ConfigError(f"{option} {text}: write KEY, KEY:categorical, KEY:continuous or KEY:vector")
    return {"kind": kind, "key": key}


def _report(model: LatentDiffusion, out: Path) -> None:
    fitted = model.fitted
    latent = model.config.autoencoder.latent_dim
    active = fitted.provenance["metrics"]["active_latent_dimensions"]
    share = fitted.provenance["data"]["nonzero_share"]
    product = "sparse" if goes_sparse(torch.device("cpu"), share) else "dense"
    typer.echo(f"{fitted.schema.cells} cells x {len(fitted.schema.genes)} genes")
    typer.echo(f"{share:.1%} of the counts are not zero: on a CPU matrix products with them are {product}")
    typer.echo(f"{active} of {latent} latent dimensions active")
    for stage, rows in fitted.history.items():
        best = {key: value for key, value in best_row(rows).items() if key != "step"}
        typer.echo(f"{stage}: " + ", ".join(f"{key} {value:.5g}" for key, value in best.items()))
    typer.echo(f"model written to {out}")
    for attribute in (*fitted.schema.attributes, *fitted.schema.nuisance):
        if attribute.kind == "categorical":
            typer.echo(f"{attribute.key}: {', '.join(attribute.categories)}")
