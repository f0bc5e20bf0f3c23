"""Which model ``latdiff fit`` and ``latdiff trial`` are asked for, and what came of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import typer

from latdiff_core.configs import parse_override
from latdiff_core.errors import ConfigError
from latdiff_core.fitting import best_row
from latdiff_core.model import LatentDiffusion
from latdiff_core.sparse_product import goes_sparse


def asked_model(
    *,
    conditions: Sequence[str] | None,
    nuisance: Sequence[str] | None,
    recipe: str | None,
    config: Path | None,
    layer: str | None,
    sets: Sequence[str] | None,
    training: Mapping[str, object],
) -> LatentDiffusion:
    """A model after a recipe or a config file, with what the options change of it.

    Parameters
    ----------
    training
        Values of the config's section of that name; those that are None are not asked for.

    Raises
    ------
    ConfigError
        If the options are not a valid model.
    """
    given = {f"training.{key}": value for key, value in training.items() if value is not None}
    overrides = dict(map(parse_override, sets or [])) | given
    if layer is not None:
        overrides["data.layer"] = layer
    asked = [_attribute("--condition", text) for text in conditions or []]
    unwanted = [_attribute("--nuisance", text) for text in nuisance or []]
    if config is None:
        return LatentDiffusion.from_recipe(recipe or "default", asked, overrides, unwanted)
    if recipe is not None:
        raise ConfigError("give --config or --recipe, not both: a config is a whole model already")
    if asked:
        overrides["data.conditions"] = asked
    if unwanted:
        overrides["data.nuisance"] = unwanted
    return LatentDiffusion.from_config(config, overrides)


def print_fit(model: LatentDiffusion, out: Path) -> None:
    """Print how a training went."""
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


def _attribute(option: str, text: str) -> dict[str, str]:
    key, _, kind = text.rpartition(":")
    if not key:
        return {"kind": "categorical", "key": text}
    if kind not in ("categorical", "continuous", "vector"):
        raise ConfigError(f"{option} {text}: write KEY, KEY:categorical, KEY:continuous or KEY:vector")
    return {"kind": kind, "key": key}
