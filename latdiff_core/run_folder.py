"""Run folders: a fitted model as safetensors, JSON and YAML, written whole or not at all, nothing of it pickled."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, load_model, save_file, save_model

from latdiff_core.assembly import build_autoencoder, build_diffusion
from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.configs import ModelConfig, dump_config, load_config
from latdiff_core.data import TrainingCells
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import OutputExistsError, RunFolderError
from latdiff_core.interfaces import INTERFACES, ComponentConfig
from latdiff_core.paths import LOCK, refuse_existing, saving_tensors, written_whole
from latdiff_core.registry import current_registry
from latdiff_core.schema import DataSchema

FORMAT = 3
"""Version of the folder's layout; a reader takes only its own."""
CONFIG, SCHEMA, MANIFEST, METRICS = "config.yaml", "schema.json", "manifest.json", "metrics.csv"
AUTOENCODER, DIFFUSION = "autoencoder.safetensors", "diffusion.safetensors"
TRAINING_CELLS = "training_cells.safetensors"
FILES = (CONFIG, SCHEMA, MANIFEST, METRICS, AUTOENCODER, DIFFUSION, TRAINING_CELLS)
"""All that a run folder holds."""
CHECKPOINTS = "run.json"
"""What tells a folder of checkpoints."""


@dataclass(frozen=True)
class FittedModel:
    """All that a run folder holds.

    Attributes
    ----------
    schema
        The contract with the data.
    autoencoder, diffusion
        The networks, in evaluation mode and without gradients.
    training_cells
        Conditions and library sizes of the cells the model was fitted on.
    history
        Metrics of every epoch of each stage, by stage.
    provenance
        Versions, seed, data fingerprint and summary metrics.
    """

    schema: DataSchema
    autoencoder: CountAutoencoder
    diffusion: Diffusion
    training_cells: TrainingCells
    history: Mapping[str, list[dict[str, float]]]
    provenance: Mapping[str, Any]


def save_run(path: Path, config: ModelConfig, fitted: FittedModel, overwrite: bool = False) -> None:
    """Write a run folder, whole or not at all.

    Raises
    ------
    OutputExistsError
        If ``path`` exists and ``overwrite`` is not given.
    """
    refuse_unless_run(path, overwrite)
    with written_whole(path) as temporary, saving_tensors():
        temporary.mkdir()
        (temporary / CONFIG).write_text(dump_config(config), encoding="utf-8")
        (temporary / SCHEMA).write_text(fitted.schema.model_dump_json(indent=1), encoding="utf-8")
        save_model(fitted.autoencoder, str(temporary / AUTOENCODER))  # weights that are shared once
        save_model(fitted.diffusion, str(temporary / DIFFUSION))
        save_file(fitted.training_cells.to_tensors(), temporary / TRAINING_CELLS)
        for name in (AUTOENCODER, DIFFUSION, TRAINING_CELLS):  # safetensors makes its files private
            (temporary / name).chmod((temporary / CONFIG).stat().st_mode)
        _write_metrics(temporary / METRICS, fitted.history)
        files = {file.name: _digest(file) for file in sorted(temporary.iterdir())}
        manifest = {"format": FORMAT, **fitted.provenance, "files": files}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))


def refuse_unless_run(path: Path, overwrite: bool) -> None:
    """Raise OutputExistsError if something is there, unless it is a run folder, and no more, that may be replaced."""
    refuse_existing(path, overwrite)
    if not path.exists():
        return
    if not (path / MANIFEST).is_file():
        raise OutputExistsError(f"{path} exists and is not a run folder, so it is not replaced; choose another name")
    if foreign := sorted(file.name for file in path.iterdir() if file.name not in (*FILES, ".DS_Store")):
        raise OutputExistsError(
            f"{path} also holds what is no part of a run ({', '.join(foreign[:3])}), so it is not replaced; move that "
            "away, or choose another name"
        )


def refuse_unless_checkpoints(path: Path) -> None:
    """Raise OutputExistsError where checkpoints are to be, and removed in the end, if something else is there."""
    begun = (path / CHECKPOINTS).is_file() or (path.is_dir() and {file.name for file in path.iterdir()} <= {LOCK})
    if path.exists() and not begun:
        raise OutputExistsError(f"{path} is in the way: checkpoints go there; move it, or choose another name")


def load_run(path: Path) -> tuple[ModelConfig, FittedModel]:
    """Read a run folder.

    Raises
    ------
    RunFolderError
        If it is missing, incomplete, damaged, or written by another version.
    ConfigError
        If it needs a component that is not installed.
    """
    manifest = _read_manifest(path)
    for name, digest in manifest["files"].items():
        if not (path / name).is_file():
            raise RunFolderError(f"{path} is incomplete: {name} is missing; copy the folder again, or fit again")
        if _digest(path / name) != digest:
            raise RunFolderError(f"{path / name} is damaged or was edited; copy the folder again, or fit again")
    config = load_config(yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")))
    try:
        schema = DataSchema.model_validate_json((path / SCHEMA).read_text(encoding="utf-8"))
    except ValidationError as error:
        raise RunFolderError(f"{path / SCHEMA} does not describe a data set: {error}") from None
    with torch.random.fork_rng(devices=[]):  # the user's random state stays as it is
        autoencoder, diffusion = build_autoencoder(config, schema), build_diffusion(config, schema)
    for network, name in ((autoencoder, AUTOENCODER), (diffusion, DIFFUSION)):
        try:
            load_model(network, path / name)
        except RuntimeError as error:
            raise RunFolderError(
                f"the weights in {path / name} do not fit the installed components; the folder was written with "
                f"{listed(manifest['versions'])}: {error}"
            ) from None
        network.eval().requires_grad_(False)
    cells = TrainingCells.from_tensors(load_file(path / TRAINING_CELLS))
    history = _read_metrics(path / METRICS)
    provenance = {k: v for k, v in manifest.items() if k not in ("format", "files")}
    return config, FittedModel(schema, autoencoder, diffusion, cells, history, provenance)


def used_versions(config: ModelConfig) -> dict[str, str]:
    """Versions of torch, of core, and of every distribution whose components the config uses."""
    registry = current_registry()
    components = [*_components(config.autoencoder), *_components(config.diffusion)]
    owners = {registry.owner(c.interface, c.kind) for c in components}
    return {name: _version(name) for name in ("torch", "latdiff-core", *sorted(owners - {"latdiff-core"}))}


def listed(versions: Mapping[str, str]) -> str:
    """Versions in words."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _components(section: Any) -> list[ComponentConfig]:
    return [value for _, value in section if isinstance(value, INTERFACES)]


@cache
def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except Exception:  # a plugin registered by hand has no distribution
        return "unknown"


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise RunFolderError(f"{path} does not exist; give the folder that `latdiff fit --out` made")
    if not (path / MANIFEST).is_file():
        raise RunFolderError(f"{path} is not a run folder, or an incomplete one: it has no {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        found = int(manifest["format"])
        files = dict(manifest["files"]) if found == FORMAT else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path / MANIFEST} is damaged ({error}); copy the folder again, or fit again") from None
    if found > FORMAT:
        raise RunFolderError(
            f"{path} was written by a newer version of latdiff (format {found}, this one reads {FORMAT}); "
            "upgrade latdiff-core"
        )
    if found < FORMAT:
        raise RunFolderError(
            f"{path} was written by an older version of latdiff (format {found}, this one reads {FORMAT}); fit again"
        )
    if lacking := set(FILES) - {MANIFEST} - set(files):
        raise RunFolderError(f"{path / MANIFEST} is damaged (it lists no {', '.join(sorted(lacking))}); fit again")
    return manifest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_metrics(file: Path, history: Mapping[str, list[dict[str, float]]]) -> None:
    rows = [{"stage": stage, **row} for stage, stage_rows in history.items() for row in stage_rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def _read_metrics(file: Path) -> dict[str, list[dict[str, float]]]:
    history: dict[str, list[dict[str, float]]] = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            values = {key: float(value) for key, value in row.items() if key != "stage" and value != ""}
            history.setdefault(row["stage"], []).append(values)
    return history
