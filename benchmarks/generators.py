"""The generators that the benchmarks compare: each fits training cells and makes one cell per asked label."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import anndata
import numpy as np
import pandas as pd
import torch
import yaml
from scipy import sparse
from splits import LABEL

from latdiff_core import LatentDiffusion
from latdiff_core.configs import ModelConfig, load_config, recipe_config
from latdiff_core.errors import ConfigError, RunFolderError


@dataclass(frozen=True)
class Generated:
    """What a generator made, and at what cost.

    Attributes
    ----------
    cells
        One per asked label, in order.
    fit_seconds, generate_seconds
        Wall time.
    parameters
        Trained numbers of all its networks.
    metrics
        What its training measured.
    settings
        Of a generator that is no recipe: its version and what it was told.
    """

    cells: anndata.AnnData
    fit_seconds: float
    generate_seconds: float
    parameters: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None


class Generator(Protocol):
    """Fits training cells and makes one cell per label, by a seed."""

    def __call__(self, train: anndata.AnnData, labels: pd.Series, seed: int) -> Generated:
        """Fit and generate."""

    def is_current(self, config: Any, seed: int) -> bool:
        """Whether a stored run of the seed, of which this is the config, would be made the same way today."""


@dataclass(frozen=True)
class Recipe:
    """A recipe of latdiff with some values changed, conditional on the label, library sizes generated."""

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def config(self, seed: int) -> ModelConfig:
        """What the run of a seed is made by."""
        return recipe_config(self.name, [LABEL], {"training.seed": seed, **self.overrides})

    def is_of(self, config: ModelConfig, seed: int) -> bool:
        """Whether a config is that of the seed, whatever it says in words."""
        ours, given = (c.model_dump(exclude={"description", "notes"}) for c in (self.config(seed), config))
        return ours == given

    def is_current(self, config: Any, seed: int) -> bool:
        try:
            return self.is_of(load_config(yaml.safe_load(config)), seed)
        except ConfigError:  # a field has another name by now
            return False

    def is_kept(self, folder: Path, seed: int) -> bool:
        """Whether the fitted model of the seed is in ``folder``, as today's version writes it."""
        try:
            return self.is_of(LatentDiffusion.load(folder).config, seed)
        except RunFolderError:
            return False

    def fitted(self, train: anndata.AnnData, folder: Path, seed: int = 0) -> LatentDiffusion:
        """The fitted model, from ``folder`` if it is kept there, else kept there from now on."""
        if not self.is_kept(folder, seed):
            LatentDiffusion(self.config(seed)).fit(train, progress=False).save(folder, overwrite=True)
        return LatentDiffusion.load(folder)

    def __call__(self, train: anndata.AnnData, labels: pd.Series, seed: int) -> Generated:
        model = LatentDiffusion(self.config(seed))
        start = time.perf_counter()
        model.fit(train, progress=False)
        fit_seconds = time.perf_counter() - start
        return replace(generated(model, labels, seed), fit_seconds=fit_seconds)


def generated(
    model: LatentDiffusion, labels: pd.Series, seed: int, overrides: Mapping[str, Any] | None = None
) -> Generated:
    """One cell per label from a fitted model, sampled with other settings if any are given; no time of fitting."""
    start = time.perf_counter()
    cells = model.generate(conditions=labels.to_frame(), seed=seed, overrides=overrides)
    seconds = time.perf_counter() - start
    fitted = model.fitted
    parameters = _parameters(fitted.autoencoder) + _parameters(fitted.diffusion)
    return Generated(cells, 0.0, seconds, parameters, fitted.provenance["metrics"])


@dataclass(frozen=True)
class Scvi:
    """scvi-tools' SCVI, NB likelihood, one batch per label, cells drawn from the prior of the asked label.

    It generates as its model says: z from a standard normal, the library size from the log-normal that it keeps for
    each batch, the label in the decoder, counts from the NB. Latent size and width are those of the default recipe;
    everything else is its own default. Its early stopping is off, as by default: the weight of the KL term rises over
    all its epochs, and before their end the prior that is drawn from is not yet the one that was trained for.
    """

    epochs: int = 400
    """scvi-tools' own default for data sets of this size."""
    n_latent: int = 32
    n_hidden: int = 256
    gene_likelihood: str = "nb"
    use_observed_lib_size: bool = False

    def is_current(self, config: Any, seed: int) -> bool:
        return isinstance(config, Mapping) and asdict(self).items() <= config.items()

    def __call__(self, train: anndata.AnnData, labels: pd.Series, seed: int) -> Generated:
        settings = asdict(self)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import scvi as tools

            tools.settings.seed = seed
            data = anndata.AnnData(train.X, obs=train.obs[[labels.name]].astype(str), var=train.var[[]])
            tools.model.SCVI.setup_anndata(data, batch_key=labels.name)
            of_model = {key: value for key, value in settings.items() if key != "epochs"}
            model = tools.model.SCVI(data, **of_model)
            start = time.perf_counter()
            model.train(self.epochs, accelerator="cpu", enable_progress_bar=False, logger=False)
            fitted = time.perf_counter()
            known = model.adata_manager.get_state_registry("batch").categorical_mapping
            codes = dict(map(reversed, enumerate(known)))
            counts = _prior_samples(model.module, np.array([codes[str(label)] for label in labels]), seed)
        cells = anndata.AnnData(counts, obs=labels.astype(str).to_frame(), var=train.var[[]])
        seconds = time.perf_counter() - fitted
        told = {"scvi-tools": tools.__version__, **settings}
        return Generated(cells, fitted - start, seconds, _parameters(model.module), settings=told)


@torch.no_grad()
def _prior_samples(module: Any, batches: np.ndarray, seed: int) -> sparse.csr_matrix:
    module.eval()
    torch.manual_seed(seed)
    mean, variance = (getattr(module, f"library_log_{name}").ravel() for name in ("means", "vars"))
    blocks = []
    for codes in torch.as_tensor(batches).split(512):
        library = mean[codes] + variance[codes].sqrt() * torch.randn(len(codes))
        z = torch.randn(len(codes), module.n_latent)
        out = module.generative(z, library.unsqueeze(1).float(), batch_index=codes.unsqueeze(1))
        blocks.append(sparse.csr_matrix(out["px"].sample().numpy().astype(np.float32)))
    return sparse.vstack(blocks, format="csr")


def _parameters(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


GENERATORS: Mapping[str, Generator] = {
    "default": Recipe("default"),
    "scvi": Scvi(),
    "cfgen_like": Recipe("cfgen_like"),
    "scldm_like": Recipe("scldm_like"),
    "scdiffusion_like": Recipe("scdiffusion_like"),
}
