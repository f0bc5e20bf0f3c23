"""Checks what a fitted model is asked for, prepares the generation, and annotates its cells."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latdiff_core.assembly import build_diffusion
from latdiff_core.conditions import Conditions
from latdiff_core.configs import ModelConfig, Overrides, apply_overrides, dump_config, load_config
from latdiff_core.data import PartsFolder, decode_obs, decode_obsm, read_request
from latdiff_core.device import Accelerator, chosen_device
from latdiff_core.errors import ConfigError, require_seed
from latdiff_core.generation import Generation
from latdiff_core.guidance_check import warn_of_untrained_branches
from latdiff_core.ranks import is_first
from latdiff_core.run_folder import FittedModel, listed, used_versions

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

log = logging.getLogger(__name__)

SAMPLING_PARTS = ("diffusion.sampler", "diffusion.guidance")


@dataclass(frozen=True)
class AskedGeneration:
    """A generation, and where its cells come from.

    Attributes
    ----------
    config
        The model's, with the sampling that was asked for.
    generation
        Makes the cells.
    provenance
        Of the fitted model.
    request
        What was asked, in words: number of cells, conditions and library sizes.
    """

    config: ModelConfig
    generation: Generation
    provenance: Mapping[str, Any]
    request: Mapping[str, Any]

    def annotated(self, values: Conditions, first: int = 0) -> AnnData:
        """An AnnData of generated cells without ``X``, from the values of all attributes; numbered from ``first``."""
        import anndata
        import pandas as pd

        generates = self.generation.autoencoder.decoder.generates
        attributes = (*self.generation.schema.attributes, *self.generation.schema.nuisance)
        made_with = {
            "config": dump_config(self.config),
            "seed": self.generation.seed,
            "accelerator": self.generation.accelerator,
            "expression": f"mean {generates}" if self.generation.mean else generates,
            "versions": used_versions(self.config),
            "fitted_with": listed(self.provenance["versions"]),
            "data": dict(self.provenance["data"]),
            "request": dict(self.request),
        }
        return anndata.AnnData(
            obs=decode_obs(values, attributes, first),
            obsm=decode_obsm(values, attributes),
            var=pd.DataFrame(index=list(self.generation.schema.genes)),
            uns={"latdiff": made_with},
        )

    def annotated_parts(self, parts: PartsFolder) -> Iterator[AnnData]:
        """Of every part of a generation to a file all but the counts, in order."""
        schema, first = self.generation.schema, 0
        names = [f"values.{i}" for i in range(len(schema.attributes) + len(schema.nuisance))]
        for indptr, *values in zip(*map(parts.read, ("indptr", *names)), strict=True):
            cells = len(indptr) - 1
            yield self.annotated(Conditions(tuple(values), cells), first)
            first += cells


def ask(
    config: ModelConfig,
    fitted: FittedModel,
    n: int | None,
    conditions: Mapping[str, Any] | pd.DataFrame | None,
    library: float | Sequence[float] | np.ndarray | None,
    seed: int,
    mean: bool,
    overrides: Overrides | None,
    accelerator: Accelerator,
) -> AskedGeneration:
    """Check what is asked of a model; see ``LatentDiffusion.generate`` for the parameters.

    Raises
    ------
    ConfigError
        If ``overrides`` change what is fixed once a model is trained.
    DataError
        If an asked condition or value is unknown, or the seed is no whole number of 64 bits with its sign.
    """
    require_seed(seed, -(2**63), 2**63)  # what a file can hold
    diffusion = fitted.diffusion
    if overrides:
        config = _sampling_config(config, overrides)
        with torch.random.fork_rng(devices=[]):  # the user's random state stays as it is
            diffusion = build_diffusion(config, fitted.schema)
        diffusion.load_state_dict(fitted.diffusion.state_dict())
    if is_first():
        warn_of_untrained_branches(fitted.diffusion.guidance, diffusion.guidance, diffusion.dim)
    request = read_request(n, conditions, library, fitted.schema, fitted.training_cells)
    if fitted.autoencoder.decoder.generates != "counts":
        log.warning("the decoder of this model generates no counts: X holds log1p of counts per 10,000")
    autoencoder, device = fitted.autoencoder, chosen_device(accelerator)
    if device.type != "cpu":  # a copy, so that the model stays where it is
        autoencoder, diffusion = copy.deepcopy(autoencoder).to(device), copy.deepcopy(diffusion).to(device)
    generation = Generation(autoencoder, diffusion, fitted.schema, request, int(seed), mean)
    said = {"cells": request.n, "conditions": _in_words(conditions), "library": _size_in_words(library)}
    return AskedGeneration(config, generation, fitted.provenance, said)


def _in_words(conditions: Mapping[str, Any] | pd.DataFrame | None) -> str:
    if isinstance(conditions, Mapping | None):
        return ", ".join(f"{key} = {value}" for key, value in (conditions or {}).items()) or "drawn"
    return f"a table of {', '.join(map(str, conditions.columns))}"


def _size_in_words(library: float | Sequence[float] | np.ndarray | None) -> str:
    if library is None:
        return "generated"
    return "one for each cell" if np.ndim(library) else f"{np.asarray(library).item():.10g}"


def _sampling_config(config: ModelConfig, overrides: Overrides) -> ModelConfig:
    for path in overrides:
        if not path.startswith(SAMPLING_PARTS):
            raise ConfigError(
                f"{path} is fixed once a model is trained; generation can change {' and '.join(SAMPLING_PARTS)}"
            )
        if path in (f"diffusion.guidance.{field}" for field in config.diffusion.guidance.of_training):
            raise ConfigError(f"{path} acts in training alone, and is fixed once a model is trained")
    return load_config(apply_overrides(config.model_dump(mode="json"), overrides))
