"""From cells to a fitted model: check, read through, train, and say what came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from scipy import sparse

from latdiff_core.assembly import check_assembly
from latdiff_core.conditions import Annotations
from latdiff_core.configs import ModelConfig
from latdiff_core.data import (
    TrainingCells,
    annotation_table,
    build_schema,
    encode_obs,
    open_counts,
    read_through,
)
from latdiff_core.data_check import warn_of_data
from latdiff_core.device import require_compiler, uses_gpu
from latdiff_core.errors import ConfigError, TrainingInterrupted
from latdiff_core.ranks import check_world, is_first
from latdiff_core.run_folder import FittedModel, used_versions

if TYPE_CHECKING:
    from anndata import AnnData


def fit_cells(
    config: ModelConfig,
    adata: AnnData | str | Path,
    checkpoints: str | Path | None,
    resume: bool,
    on_disk: bool,
    progress: bool,
) -> FittedModel:
    """What ``LatentDiffusion.fit`` describes."""
    from latdiff_core.training import CellData, check_strategy, fit_model, open_checkpoints

    check_assembly(config)
    versions = used_versions(config)  # missed before training where a component is not registered
    training = config.training
    processes = training.devices * training.nodes
    check_world(training.devices, training.nodes)
    check_strategy(training.strategy)
    uses_gpu(training.accelerator)  # one that is not there is missed before anything is begun
    if training.compile:
        require_compiler()
    if checkpoints is None and processes > 1:
        raise ConfigError("several processes train together: give a folder that all of them reach as checkpoints")
    keys = [c.key for c in (*config.data.conditions, *config.data.nuisance)]
    with (
        open_counts(adata, config.data.layer, keys, on_disk) as (cells, counts),
        tempfile.TemporaryDirectory() if checkpoints is None else nullcontext(checkpoints) as folder,
    ):
        table = annotation_table(cells, keys)
        schema = build_schema(cells.var_names, table, config.data)
        annotations = Annotations(encode_obs(table, schema.attributes), encode_obs(table, schema.nuisance))
        first = read_through(counts, schema, annotations)
        on_disk = not sparse.issparse(counts)
        if is_first():
            warn_of_data(first, config.autoencoder.decoder, table, schema)
        opened = open_checkpoints(Path(folder), config, first.fingerprint, on_disk, resume)
        try:
            with opened if is_first() else nullcontext():
                result = fit_model(config, CellData(counts, annotations, schema), Path(folder), progress)
        except KeyboardInterrupt as error:
            again = (
                f"fit again with checkpoints={str(folder)!r} and resume=True to go on"
                if checkpoints is not None
                else "nothing was kept; give a folder as checkpoints to make fits resumable"
            )
            raise TrainingInterrupted(f"training was interrupted; {again}") from error
    provenance = {
        "versions": versions,
        "seed": config.training.seed,
        "data": {
            "cells": schema.cells,
            "genes": len(schema.genes),
            "nonzero_share": first.nonzero_share,
            "fingerprint": first.fingerprint,
        },
        "metrics": {
            "active_latent_dimensions": result.active_dimensions,
            **{f"{stage}_{k}": v for stage, rows in result.history.items() for k, v in best_row(rows).items()},
        },
    }
    training_cells = TrainingCells(annotations.conditions, first.library)
    return FittedModel(schema, result.autoencoder, result.diffusion, training_cells, result.history, provenance)


def best_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of the epoch whose weights were kept: the lowest validation loss, or the last.

    Losses with another weight of the KL term than the last one's are no longer comparable.
    """
    if not rows or "val_loss" not in rows[-1]:
        return dict(rows[-1]) if rows else {}
    alike = list(takewhile(lambda row: row.get("kl_weight") == rows[-1].get("kl_weight"), reversed(rows)))
    return dict(min(reversed(alike), key=lambda row: row["val_loss"]))
