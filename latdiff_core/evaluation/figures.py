"""The figure that shows at a glance whether generated cells look like real ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from latdiff_core.data import aligned_counts, raw_counts, refuse_existing
from latdiff_core.data.observations import attribute_column
from latdiff_core.errors import DataError
from latdiff_core.evaluation.space import ExpressionSpace

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS = 3000
REAL, SYNTHETIC = "#4d4d4d", "#d1495b"


def overview_figure(
    real: AnnData,
    synthetic: AnnData,
    reference: AnnData,
    color: str | None = None,
    seed: int = 0,
    layer: str | None = None,
) -> Figure:
    """Real and generated cells side by side in one UMAP, and gene by gene: mean-variance and zeros.

    Parameters
    ----------
    real, synthetic
        Held-out and generated cells with counts in ``X``.
    reference
        Training cells, which the principal components under the UMAP are fitted on.
    color
        Column of ``obs`` to colour the cells by.
    layer
        Layer with the raw counts of the real cells; ``X`` when None.

    Raises
    ------
    DataError
        If the genes differ, or a set lacks the column.
    """
    from matplotlib.figure import Figure

    rng = np.random.default_rng(seed)
    labels = [_labels(cells, color) for cells in (real, synthetic)]
    shown = [_subsample(cells.n_obs, rng) for cells in (real, synthetic)]
    real, synthetic = real[shown[0]], synthetic[shown[1]]
    genes = list(map(str, reference.var_names))
    counts = [
        aligned_counts(real, genes, layer, whose="the reference's"),
        aligned_counts(synthetic, genes, allow_empty=True, whose="the reference's"),
    ]
    space = ExpressionSpace.fit(raw_counts(reference, layer), seed=seed)
    coordinates = _umap(np.concatenate([space.project(c) for c in counts]), seed)
    figure = Figure(figsize=(12, 9.5), layout="constrained", dpi=120)
    axes = figure.subplots(2, 2)
    _draw_embedding(
        axes[0], np.split(coordinates, [real.n_obs]), [of[i] for of, i in zip(labels, shown, strict=True)], color
    )
    _draw_mean_variance(axes[1, 0], counts)
    _draw_zeros(axes[1, 1], counts)
    return figure


def check_figure(path: Path, overwrite: bool) -> None:
    """Refuse, before any work is done, a picture that could not be written at the end."""
    from matplotlib.figure import Figure

    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in kinds:
        raise DataError(f"{path} ends in {path.suffix!r}; pictures end in .{', .'.join(sorted(kinds))}")
    refuse_existing(path, overwrite)
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {path.parent}")


def _subsample(cells: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(cells, min(cells, MOST_CELLS), replace=False))


def _labels(cells: AnnData, color: str | None) -> np.ndarray:
    if color is None:
        return np.full(cells.n_obs, "cells")
    labels: np.ndarray = attribute_column(cells.obs, color).astype(str).to_numpy()
    return labels


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on threads and a fixed seed, which is what we ask for
        from umap import UMAP

        neighbors = min(15, len(points) - 1)
        coordinates: np.ndarray = UMAP(n_neighbors=neighbors, random_state=seed, n_jobs=1).fit_transform(points)
    return coordinates


def _draw_embedding(axes: Any, points: list[np.ndarray], labels: list[np.ndarray], color: str | None) -> None:
    from matplotlib import colormaps

    names = sorted(set(np.concatenate(labels)))
    palette = colormaps["tab10" if len(names) <= 10 else "tab20"]
    everything = np.concatenate(points)
    titles = (f"{len(points[0])} held-out real cells", f"{len(points[1])} generated cells")
    for axis, xy, of, title in zip(axes, points, labels, titles, strict=True):
        axis.scatter(*everything.T, s=6, color="#ececec", linewidths=0)
        for i, name in enumerate(names):
            axis.scatter(*xy[of == name].T, s=14, linewidths=0, color=palette(i % palette.N), label=name)
        axis.set(title=title, xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
        axis.spines[["top", "right"]].set_visible(False)
    if color:
        axes[1].legend(title=color, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.8)


def _draw_mean_variance(axis: Axes, counts: list[sparse.csr_matrix]) -> None:
    for mean, matrix, style in _per_gene(counts):
        variance = np.asarray(matrix.multiply(matrix).mean(0)).ravel() - mean**2
        seen = (mean > 0) & (variance > 0)
        axis.scatter(mean[seen], variance[seen], **style)
    axis.set(xscale="log", yscale="log", xlabel="mean count of a gene", ylabel="variance", title="Mean and variance")
    limits = np.array(axis.get_xlim())
    axis.plot(limits, limits, color="black", lw=0.8, ls=":", label="Poisson")
    _finish(axis, limits)


def _draw_zeros(axis: Axes, counts: list[sparse.csr_matrix]) -> None:
    for mean, matrix, style in _per_gene(counts):
        zeros = 1 - matrix.getnnz(axis=0) / matrix.shape[0]
        axis.scatter(mean[mean > 0], zeros[mean > 0], **style)
    axis.set(xscale="log", xlabel="mean count of a gene", ylabel="share of zeros", title="Zeros")
    limits = np.array(axis.get_xlim())
    grid = np.geomspace(limits[0], limits[1], 200)
    axis.plot(grid, np.exp(-grid), color="black", lw=0.8, ls=":", label="Poisson")
    _finish(axis, limits)


def _per_gene(counts: list[sparse.csr_matrix]) -> Iterator[tuple[np.ndarray, sparse.csr_matrix, dict[str, Any]]]:
    """Mean of every gene, the counts, and how to draw them: real cells first, then generated ones."""
    looks = ((REAL, "real", "o"), (SYNTHETIC, "generated", "x"))
    for matrix, (color, label, marker) in zip(counts, looks, strict=True):
        style = {"s": 10, "color": color, "label": label, "marker": marker, "alpha": 0.5, "linewidths": 0.8}
        yield np.asarray(matrix.mean(0)).ravel(), matrix, style


def _finish(axis: Axes, limits: np.ndarray) -> None:
    axis.set_xlim(*limits)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
