"""The Python door: fit, generate, embed, save, load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from latdiff_core.asked_generation import ask
from latdiff_core.conditions import Annotations
from latdiff_core.configs import (
    ModelConfig,
    Overrides,
    load_config,
    read_config,
    recipe_config,
)
from latdiff_core.counts import CountBatch
from latdiff_core.data import (
    aligned_counts,
    annotation_table,
    encode_obs,
    read_anndata,
    unknown_values,
)
from latdiff_core.device import Accelerator
from latdiff_core.errors import DataError, LatdiffError
from latdiff_core.fitting import fit_cells
from latdiff_core.generation_to_file import generate_to_file
from latdiff_core.progress import progress_bar
from latdiff_core.ranks import is_first, wait_for_all
from latdiff_core.run_folder import FittedModel, load_run, save_run

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

EMBEDDING_BATCH = 512


class LatentDiffusion:
    """A latent diffusion model of single-cell counts.

    Parameters
    ----------
    config
        What it is made of; see ``from_recipe`` and ``from_config`` for the usual ways to get one.

    Examples
    --------
    >>> model = LatentDiffusion.from_recipe("default", conditions=["cell_type"])
    >>> model.fit(adata)
    >>> cells = model.generate(1000, {"cell_type": "B cell"})
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._fitted: FittedModel | None = None

    @classmethod
    def from_recipe(
        cls,
        name: str = "default",
        conditions: Sequence[str | Mapping[str, Any]] = (),
        overrides: Overrides | None = None,
        nuisance: Sequence[str | Mapping[str, Any]] = (),
    ) -> Self:
        """A model after a named recipe.

        Parameters
        ----------
        name
            One of those that ``latdiff recipes`` lists.
        conditions
            What generation can be asked for: columns of ``obs`` taken as categories, or mappings such as
            ``{"kind": "continuous", "key": "dose"}`` and ``{"kind": "vector", "key": "fingerprint"}`` (of ``obsm``).
        overrides
            Config values by dotted path, such as ``{"autoencoder.latent_dim": 48}``.
        nuisance
            What the latent shall be free of, such as batch or donor, written like conditions.

        Raises
        ------
        ConfigError
            If the recipe does not exist or the result is not a valid config.
        """
        return cls(recipe_config(name, conditions, overrides, nuisance))

    @classmethod
    def from_config(
        cls, config: ModelConfig | Mapping[str, Any] | str | Path, overrides: Overrides | None = None
    ) -> Self:
        """A model after a config: an object, a mapping, or the path of a YAML file.

        Raises
        ------
        ConfigError
            If it is not a valid config; the message has the path of every problem.
        """
        if isinstance(config, ModelConfig):
            config = config.model_dump(mode="json")
        return cls(read_config(config, overrides) if isinstance(config, str | Path) else load_config(config, overrides))

    def fit(
        self,
        adata: AnnData | str | Path,
        *,
        checkpoints: str | Path | None = None,
        resume: bool = False,
        on_disk: bool = False,
        progress: bool = True,
    ) -> Self:
        """Train on raw counts.

        Parameters
        ----------
        adata
            Cells in memory or backed, or the path of an ``.h5ad`` or ``.zarr``; not changed.
        checkpoints
            Folder for checkpoints; needed to resume after an interruption.
        resume
            Go on from the checkpoints in that folder, which must be of the same data and config.
        on_disk
            Leave the counts in the file and read them again in every epoch, for data larger than memory. A backed
            AnnData is always read so.
        progress
            Show progress bars.

        Raises
        ------
        DataError
            If the counts or condition columns cannot be used.
        ConfigError
            If parts of the config do not fit each other, or this machine lacks what they ask for.
        OutputExistsError, RunFolderError
            If ``checkpoints`` holds some and ``resume`` is not given, those are not of this fit, or another process
            trains in that folder.
        TrainingDiverged
            If a loss is no number any more; ``checkpoints`` are then of no use.
        TrainingInterrupted
            At Ctrl-C.
        """
        self._fitted = fit_cells(self.config, adata, checkpoints, resume, on_disk, progress)
        return self

    def generate(
        self,
        n: int | None = None,
        conditions: Mapping[str, Any] | pd.DataFrame | None = None,
        *,
        library: float | Sequence[float] | np.ndarray | None = None,
        seed: int = 0,
        mean: bool = False,
        overrides: Overrides | None = None,
        accelerator: Accelerator = "auto",
        progress: bool = False,
    ) -> AnnData:
        """Generate cells.

        Parameters
        ----------
        n
            Number of cells; may be left out when ``conditions`` is a table.
        conditions
            One setting for all cells, such as ``{"cell_type": "B cell"}``, or a table with one row per cell; the
            value of a vector condition is an array. A condition that is not asked for is drawn from the training cells
            that agree with what is; a nuisance attribute that is not asked for is that of the average cell.
        library
            Total counts expected of a cell, one number or one per cell; generated when not given. Those of its drawn
            counts vary around it.
        seed
            The same seed gives the same cells, and a larger ``n`` the same first ones.
        mean
            Return each cell's expected counts instead of sampled ones. Expectations are not cells: they have no exact
            zeros and a fraction of the variance.
        overrides
            Other values for ``diffusion.sampler`` and ``diffusion.guidance``, by dotted path, such as
            ``{"diffusion.sampler.steps": 50}``.
        accelerator
            ``cpu``, ``gpu``, or ``auto``: a GPU if there is one. For the same seed a GPU and a CPU make different
            cells, so processes that share a generation need the same.
        progress
            Show a progress bar.

        Returns
        -------
        AnnData
            Integer counts as CSR (cells, genes), conditions in ``obs`` and ``obsm``, genes in ``var``, provenance in
            ``uns``.

        Raises
        ------
        DataError
            If an asked condition or value is unknown; the message lists the known ones. If the seed is no whole number
            of 64 bits with its sign.
        ConfigError
            If a GPU is asked for and there is none, or ``overrides`` change what is fixed once a model is trained.
        LatdiffError
            If the model is not fitted, or sampling diverges.
        """
        asked = ask(self.config, self._require_fitted(), n, conditions, library, seed, mean, overrides, accelerator)
        generation = asked.generation
        with progress_bar("generating", generation.request.n, progress) as advance:
            cells = generation.cells(range(len(generation)), advance)
        adata = asked.annotated(cells.annotations.together())
        adata.X = cells.counts
        return adata

    def generate_to(
        self,
        path: str | Path,
        n: int | None = None,
        conditions: Mapping[str, Any] | pd.DataFrame | None = None,
        *,
        library: float | Sequence[float] | np.ndarray | None = None,
        seed: int = 0,
        mean: bool = False,
        overrides: Overrides | None = None,
        accelerator: Accelerator = "auto",
        overwrite: bool = False,
        progress: bool = False,
        chunk: int = 10_240,
    ) -> None:
        """Generate cells to a file: those of ``generate``, in memory that does not grow with their number.

        The cells are made in parts, which lie in the folder ``PATH.parts`` until all are there and are joined. After an
        interruption of any kind the same call goes on with the parts that are missing. Processes that torchrun or srun
        started together share the parts; the first of them joins them, and the file is there when its call returns. In
        a script that training has run again in further processes each of them has to make this call: the first makes
        all parts, and the others return when the file is there.

        Parameters
        ----------
        path
            An ``.h5ad`` or ``.zarr``.
        n, conditions, library, seed, mean, overrides, accelerator, progress
            As in ``generate``.
        overwrite
            Replace the file if it exists, and remove parts of another request.
        chunk
            Cells per part, rounded up to a multiple of 512, or on a GPU of 10,240; cells do not depend on it, memory
            does.

        Raises
        ------
        DataError
            If an asked condition or value is unknown, or the file's ending.
        OutputExistsError
            If the file exists, or parts of another request.
        GenerationInterrupted
            At Ctrl-C.
        """
        if not isinstance(chunk, Integral) or chunk < 1:
            raise DataError(f"chunk is {chunk}; give a whole number of cells, at least 1")
        asked = ask(self.config, self._require_fitted(), n, conditions, library, seed, mean, overrides, accelerator)
        generate_to_file(asked, Path(path), int(chunk), overwrite, progress)

    def embed(self, adata: AnnData | str | Path) -> np.ndarray:
        """Posterior means of real cells, float32 (cells, latent); genes are matched by name.

        A cell of a batch that no training cell was of is taken as one of the average batch, with a warning.

        Raises
        ------
        DataError
            If the genes differ from the model's, the counts are not raw counts, or a nuisance attribute is missing.
        """
        fitted = self._require_fitted()
        cells = read_anndata(adata)
        counts = aligned_counts(cells, fitted.schema.genes, self.config.data.layer)
        table = annotation_table(cells, fitted.schema.keys)
        nuisance = encode_obs(table, fitted.schema.nuisance, allow_unseen=True)
        annotations = Annotations(unknown_values(fitted.schema.attributes, len(nuisance)), nuisance)
        latents = []
        for start in range(0, len(annotations), EMBEDDING_BATCH):
            rows = slice(start, start + EMBEDDING_BATCH)
            batch, covariates = CountBatch.from_csr(counts[rows]), annotations[rows].covariates(fitted.schema)
            with torch.no_grad():
                latents.append(fitted.autoencoder.encode(batch, covariates).loc.float())
        return torch.cat(latents).numpy()

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a run folder; an existing one is replaced only with ``overwrite``.

        Of several processes that train together, which all call this, the first one writes, and the others wait for it.

        Raises
        ------
        OutputExistsError
            If something is there that may not be replaced, or is no run folder.
        LatdiffError
            If the model is not fitted.
        """
        try:
            if is_first():
                save_run(Path(path), self.config, self._require_fitted(), overwrite)
        finally:
            wait_for_all()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a run folder; nothing in it is unpickled.

        Raises
        ------
        RunFolderError
            If it is missing, damaged, or written by another version.
        """
        config, fitted = load_run(Path(path))
        model = cls(config)
        model._fitted = fitted
        return model

    @property
    def fitted(self) -> FittedModel:
        """Networks, schema and metrics of a fitted model."""
        return self._require_fitted()

    def _require_fitted(self) -> FittedModel:
        if self._fitted is None:
            raise LatdiffError("this model is not fitted; call fit(adata), or LatentDiffusion.load(folder)")
        return self._fitted
