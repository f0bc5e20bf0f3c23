"""Fits a whole model: stage 1, the cached latents, stage 2, each step taken up where it was left."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from scipy import sparse
from torch import Tensor
from torch.utils.data import DataLoader

from latdiff_core.assembly import build_autoencoder, build_diffusion
from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.configs import ModelConfig
from latdiff_core.cpu import multiplies_bfloat16, tuned_cpu
from latdiff_core.data import gene_statistics
from latdiff_core.device import chosen_device
from latdiff_core.diffusion import Diffusion
from latdiff_core.errors import RunFolderError
from latdiff_core.guidance_check import warn_of_untrained_branches
from latdiff_core.interfaces import GeneStatistics
from latdiff_core.paths import write_text
from latdiff_core.ranks import is_first, wait_for_all
from latdiff_core.training.batches import CellBatch, CellData, InOrder, LatentBatch, LatentData, Shuffled, loader
from latdiff_core.training.block_shuffle import BlockShuffled, BufferedCells
from latdiff_core.training.modules import AutoencoderStage, DiffusionStage
from latdiff_core.training.stage import run_stage

log = logging.getLogger(__name__)

ENCODING_BATCH = 512
ENCODING_CHUNK = 16 * ENCODING_BATCH
"""Cells of one reading."""
MOST_VALIDATION = 10_000
"""The mean loss of more cells is hardly more certain, and they are held in memory."""
ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if the variance of its posterior means exceeds this (Burda et al. 2016,
arXiv:1509.00519, section 5.2)."""
SMALLEST_STD = 1e-3


@dataclass(frozen=True)
class FitResult:
    """A trained model.

    Attributes
    ----------
    autoencoder, diffusion
        The two networks, in evaluation mode and without gradients.
    history
        Metrics of every epoch of each stage, by stage.
    active_dimensions
        Latent dimensions that carry information.
    """

    autoencoder: CountAutoencoder
    diffusion: Diffusion
    history: Mapping[str, list[dict[str, float]]]
    active_dimensions: int


def fit_model(config: ModelConfig, cells: CellData, folder: Path, progress: bool = True) -> FitResult:
    """Train both stages, with checkpoints under ``folder``, from which a second call goes on.

    Of cells whose counts are on disk, only some at a time are in memory: a buffer of those trained on, and at most
    10,000 for validation. Latents and conditions of all cells are in memory in either case.

    Raises
    ------
    KeyboardInterrupt
        At Ctrl-C.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seed = config.training.seed
    device = chosen_device(config.training.accelerator)
    alone = config.training.devices * config.training.nodes == 1
    # A strategy that forks cannot be followed onto a GPU that this process has spoken to.
    gpus = range(torch.cuda.device_count()) if alone and device.type != "cpu" else []
    half = config.training.precision == "bfloat16"
    if half and device.type == "cpu" and is_first() and not multiplies_bfloat16():
        log.warning("this processor has no bfloat16 products and imitates them slowly; float32 trains faster here")
    with torch.random.fork_rng(devices=gpus), tuned_cpu(device):
        torch.manual_seed(seed)
        known = cells.annotations.together().values
        codes = [values.numpy() for values in known if values.dtype == torch.int64]
        train, validation = split_cells(len(cells), config.training.validation_fraction, seed, codes)
        if config.training.validation_fraction and not len(validation) and is_first():
            log.warning(
                "no cells are left to validate by, so the weights of the last steps are kept: too few of a kind"
            )
        statistics = gene_statistics(cells.counts, train)
        autoencoder = build_autoencoder(config, cells.schema, statistics)
        diffusion = build_diffusion(config, cells.schema)
        if is_first():
            warn_of_untrained_branches(diffusion.guidance, diffusion.guidance, diffusion.dim)
        first = _fit_autoencoder(autoencoder, config, cells, statistics, train, validation, folder, progress)
        autoencoder.to(device if alone else "cpu")
        latents = encode_cells(autoencoder, cells, joint=config.diffusion.library == "joint")
        autoencoder.cpu()
        standardise(diffusion, latents, train)
        active = report_activity(latents.loc[:, : autoencoder.latent_dim])
        second = _fit_diffusion(diffusion, config, latents, train, validation, folder, progress)
    wait_for_all()  # before the first process may remove the folder that all have read
    return FitResult(autoencoder, diffusion, {"autoencoder": first, "diffusion": second}, active)


def split_cells(
    n: int, fraction: float, seed: int, categories: Iterable[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the cells trained on and of those, at most 10,000, that validate: they choose the best weights.

    Of each category, given as codes (n,) of one attribute after the other, at least one cell is trained on: what a
    network is never shown it cannot be asked for.
    """
    order = np.random.default_rng(seed).permutation(n)
    size = min(round(fraction * n), n - 1, MOST_VALIDATION)
    train, validation = order[size:], order[:size]
    for codes in categories:
        found, firsts = np.unique(codes[validation], return_index=True)
        lacking = firsts[~np.isin(found, codes[train])]
        train, validation = np.append(train, validation[lacking]), np.delete(validation, lacking)
    return np.sort(train), np.sort(validation)


def encode_cells(autoencoder: CountAutoencoder, cells: CellData, joint: bool) -> LatentBatch:
    """Posteriors of all cells, once, on the CPU; with ``joint`` the log library size is one more dimension."""
    autoencoder.eval()
    device = next(autoencoder.parameters()).device
    locs, scales = [], []
    with torch.no_grad():
        for batch in _in_order(cells):
            batch = batch.to(device)
            posterior = autoencoder.encode(batch.counts, batch.covariates)
            parts = [posterior.loc.float(), posterior.scale.float()]
            if joint:
                log_library = batch.counts.library.log().unsqueeze(-1)
                parts = [torch.cat(pair, -1) for pair in zip(parts, (log_library, 0 * log_library), strict=True)]
            locs.append(parts[0].cpu())
            scales.append(parts[1].cpu())
    return LatentBatch(torch.cat(locs), torch.cat(scales), cells.annotations.conditions)


def _in_order(cells: CellData) -> Iterator[CellBatch]:
    """Batches of all cells, which are read some thousand at a time."""
    for read in InOrder(len(cells), ENCODING_CHUNK):
        chunk = cells.subset(np.asarray(read))
        for index in InOrder(len(chunk), ENCODING_BATCH):
            yield chunk[index]


def training_batches(cells: CellData, train: np.ndarray, batch_size: int, seed: int) -> DataLoader[CellBatch]:
    """Shuffled batches of the cells trained on, drawn one by one from memory, or block by block from a disk."""
    if sparse.issparse(cells.counts):
        return loader(cells.subset(train), Shuffled(len(train), batch_size, seed))
    return loader(BufferedCells(cells), BlockShuffled(train, batch_size, seed))


def standardise(diffusion: Diffusion, latents: LatentBatch, train: np.ndarray) -> None:
    """Set the standardisation to the total posterior statistics: variance of the means plus mean of the variances.

    A dead dimension, whose means do not vary, so keeps a standard deviation near 1 instead of blowing up; library
    sizes that are all equal stay so.
    """
    loc, scale = latents.loc[train], latents.scale[train]
    diffusion.standardiser.mean.copy_(loc.mean(0))
    total = loc.var(0, correction=0) + scale.square().mean(0)
    diffusion.standardiser.std.copy_(total.sqrt().clamp(min=SMALLEST_STD))


def report_activity(loc: Tensor) -> int:
    """Count the active latent dimensions, and warn when the latent is (nearly) dead."""
    active = int((loc.var(0) > ACTIVE_VARIANCE).sum())
    if active < min(2, loc.shape[1]):
        log.warning(
            "posterior collapse: %d of %d latent dimensions carry information, so generated cells will not differ "
            "beyond chance; lower training.autoencoder.kl_weight, raise kl_warmup or free_bits, or train longer",
            active, loc.shape[1],
        )  # fmt: skip
    return active


def _fit_autoencoder(
    model: CountAutoencoder,
    config: ModelConfig,
    cells: CellData,
    statistics: GeneStatistics,
    train: np.ndarray,
    validation: np.ndarray,
    folder: Path,
    progress: bool,
) -> list[dict[str, float]]:
    weights, metrics = folder / "autoencoder.safetensors", folder / "autoencoder_history.json"
    if metrics.is_file():  # written last: stage 1 was finished by an earlier call
        try:
            load_model(model, weights)
            rows: list[dict[str, float]] = json.loads(metrics.read_text())
        except Exception as error:
            raise RunFolderError(f"stage 1 in {folder} is damaged; remove it and fit again ({error})") from error
        model.eval().requires_grad_(False)
        return rows
    section = config.training.autoencoder
    batches = training_batches(cells, train, section.batch_size, config.training.seed)
    epochs = max(section.epochs, -(-section.min_steps // len(batches)))
    history = run_stage(
        AutoencoderStage(model, section, len(train), statistics.components, compiled=config.training.compile),
        "autoencoder",
        batches,
        loader(cells.subset(validation), InOrder(len(validation), ENCODING_BATCH)) if len(validation) else None,
        config=config.training,
        epochs=epochs,
        ema_decay=section.ema_decay,
        folder=folder / "autoencoder",
        progress=progress,
    )
    model.cpu()
    if is_first():
        save_model(model, str(weights))
        write_text(metrics, json.dumps(history))
    return history


def _fit_diffusion(
    model: Diffusion,
    config: ModelConfig,
    latents: LatentBatch,
    train: np.ndarray,
    validation: np.ndarray,
    folder: Path,
    progress: bool,
) -> list[dict[str, float]]:
    section, seed = config.training.diffusion, config.training.seed
    everything = LatentData(latents)
    data, checked = LatentData(everything[train.tolist()]), LatentData(everything[validation.tolist()])
    checks = max(d for d in range(1, min(section.checks, section.steps) + 1) if section.steps % d == 0)
    history = run_stage(
        DiffusionStage(model, section, seed, compiled=config.training.compile),
        "diffusion",
        loader(data, Shuffled(len(data), section.batch_size, seed, batches=section.steps // checks)),
        loader(checked, InOrder(len(checked), 4 * ENCODING_BATCH)) if len(checked) else None,
        config=config.training,
        epochs=checks,
        ema_decay=section.ema_decay,
        folder=folder / "diffusion",
        progress=progress,
    )
    model.cpu()
    return history
