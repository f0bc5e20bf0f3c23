"""The figures of an evaluation: cells side by side, genes, conditions, and the scores at a glance."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from latdiff_core.cpu import one_numba_thread
from latdiff_core.evaluation.cells import gene_moments
from latdiff_core.evaluation.metrics.genes import zero_share
from latdiff_core.evaluation.prepare import Prepared
from latdiff_core.evaluation.result import GENERATED, REAL, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {REAL: "#4d4d4d", GENERATED: "#d1495b"}
STANDINGS = {
    "like real": "#2a7f62",
    "between": "#c98a1b",
    "beyond real": "#8a6d3b",
    "trivial": "#b3313f",
    "cannot tell": "#6a6a6a",
}
"""Colours of how a score stands, as in the page."""
DPI = 110
MOST_SHOWN = 1.5
NEAREST = "nearest trivial generator"
MOST_LABELS = 20
"""In a legend; beyond it colours repeat, and tell nothing."""


def overview_figure(evaluation: Evaluation) -> Figure:
    """Real and generated cells side by side in one UMAP, and gene by gene: mean-variance and zeros."""
    figure = _figure(12, 9.5)
    axes = figure.subplots(2, 2)
    cells = evaluation.cells
    points = _umap(np.concatenate([cells.real.points, cells.synthetic.points]), cells.reference.seed)
    _draw_embedding(axes[0], np.split(points, [len(cells.real)]), cells)
    _draw_mean_variance(axes[1, 0], cells)
    _draw_zeros(axes[1, 1], cells)
    return figure


def score_figure(evaluation: Evaluation) -> Figure:
    """Every score on one scale: 0 is what real cells score, 1 the nearest trivial generator."""
    table = evaluation.table[evaluation.table["standing"] != "unknown"]
    scale = table["trivial"].fillna(table["reach"]).clip(lower=np.finfo(float).tiny)
    figure = _figure(9, 0.28 * len(table) + 1.1)
    axis = figure.subplots()
    rows = np.arange(len(table))[::-1]
    axis.barh(rows, np.minimum(table["reach"] / scale, MOST_SHOWN), color="#e3e3e3", label="as far as chance reaches")
    far = (table["distance"] / scale).clip(upper=MOST_SHOWN)
    for standing, color in STANDINGS.items():
        if (like := (table["standing"] == standing).to_numpy()).any():
            near = like & (far < MOST_SHOWN).to_numpy()
            axis.scatter(far[near], rows[near], color=color, zorder=3, label=standing)
            axis.scatter(far[like & ~near], rows[like & ~near], color=color, marker=">", zorder=3)
    axis.axvline(1, color="black", lw=0.8, ls=":", label=NEAREST)
    axis.set(
        yticks=rows, yticklabels=[evaluation.scores[key].name for key in table.index], xlim=(-0.04, MOST_SHOWN + 0.04),
        xlabel=f"distance from what real cells score (beyond {MOST_SHOWN} drawn there)",
    )  # fmt: skip
    _finish(axis, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return figure


def condition_figure(evaluation: Evaluation) -> Figure | None:
    """Distances and label accuracy of every condition beside real cells; None when no condition has enough cells."""
    from matplotlib.patheffects import withStroke

    table = evaluation.conditions
    if len(table) == 0:
        return None
    table = table.sort_values("cells")
    figure = _figure(12, 0.45 * len(table) + 1.6)
    axes = figure.subplots(1, 3, sharey=True)
    rows = np.arange(len(table))
    titles = {"w2": "2-Wasserstein distance", "mmd2": "MMD²", "label_accuracy": "Label accuracy"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        chance = {"xerr": table[f"{key}_reach"], "error_kw": {"lw": 1, "ecolor": "#222222"}}
        axis.barh(rows + 0.2, table[f"{key}_real"], 0.38, color=COLORS[REAL], label=REAL)
        axis.barh(rows - 0.2, table[key], 0.38, color=COLORS[GENERATED], label=GENERATED, **chance)
        axis.scatter(
            table[f"{key}_trivial"], rows, marker="|", s=160, color="black", zorder=3, label=NEAREST,
            path_effects=[withStroke(linewidth=4, foreground="white")],
        )  # fmt: skip
        axis.set(title=title, yticks=rows)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    axes[0].set_yticklabels([_text(f"{name} ({n})") for name, n in table["cells"].items()])
    axes[2].set_xlim(0, 1.02)
    return figure


def gene_figure(evaluation: Evaluation) -> Figure:
    """The distributions of the six genes that differ most from real, beyond what real cells differ among themselves."""
    cells = evaluation.cells
    figure = _figure(12, 5.6)
    index = {name: i for i, name in enumerate(cells.reference.genes)}
    for axis, name in zip(figure.subplots(2, 3).ravel(), evaluation.genes.index[:6], strict=False):
        values = [s.values[:, index[name]].toarray().ravel() for s in (cells.real, cells.synthetic)]
        edges = np.linspace(min(0.0, *map(np.min, values)), max(1.0, *map(np.max, values)), 30)
        for side, x in zip((REAL, GENERATED), values, strict=True):
            axis.hist(x, edges, weights=np.full(len(x), 1 / len(x)), color=COLORS[side], alpha=0.55, label=side)
        axis.set(title=_text(name), xlabel="log1p counts per 10,000", ylabel="share of cells", yscale="log")
        _finish(axis, loc="upper right")
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings(), one_numba_thread():
        warnings.simplefilter("ignore")  # on threads and a fixed seed, which is what we ask for
        from umap import UMAP

        neighbors = min(15, len(points) - 1)
        coordinates: np.ndarray = UMAP(n_neighbors=neighbors, random_state=seed, n_jobs=1).fit_transform(points)
    return coordinates


def _draw_embedding(axes: Any, points: list[np.ndarray], cells: Prepared) -> None:
    from matplotlib import colormaps

    labels = (cells.real.labels, cells.synthetic.labels)
    names = sorted(set(np.concatenate(labels)))
    palette, handles = colormaps["tab10" if len(names) <= 10 else "tab20"], []
    everything = np.concatenate(points)
    titles = (f"{len(points[0]):,} held-out real cells", f"{len(points[1]):,} generated cells")
    for axis, xy, of, title in zip(axes, points, labels, titles, strict=True):
        axis.scatter(*everything.T, s=6, color="#ececec", linewidths=0)
        for i, name in enumerate(names):
            dots = axis.scatter(*xy[of == name].T, s=14, linewidths=0, color=palette(i % palette.N))
            handles.append(dots)
        axis.set(title=title, xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
        axis.spines[["top", "right"]].set_visible(False)
    if 1 < len(names) <= MOST_LABELS:
        axes[1].legend(
            handles[-len(names) :], [_text(name) for name in names], title=_text(", ".join(cells.conditions)),
            loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.8,
        )  # fmt: skip


def _draw_mean_variance(axis: Axes, cells: Prepared) -> None:
    for mean, matrix, style in _per_gene(cells):
        _, variance = gene_moments(matrix)
        seen = (mean > 0) & (variance > 0)
        axis.scatter(mean[seen], variance[seen], **style)
    axis.set(xscale="log", yscale="log", ylabel="variance", title="Mean and variance")
    limits = np.array(axis.get_xlim())
    _draw_poisson(axis, cells, limits, limits, loc="upper left")


def _draw_zeros(axis: Axes, cells: Prepared) -> None:
    for mean, matrix, style in _per_gene(cells):
        zeros = zero_share(matrix)
        axis.scatter(mean[mean > 0], zeros[mean > 0], **style)
    axis.set(xscale="log", ylabel="share of zeros", title="Zeros")
    grid = np.geomspace(*axis.get_xlim(), 200)
    _draw_poisson(axis, cells, grid, np.exp(-grid), loc="lower left")


def _draw_poisson(axis: Axes, cells: Prepared, x: np.ndarray, y: np.ndarray, loc: str) -> None:
    counted = cells.synthetic.counts is not None
    if counted:
        axis.plot(x, y, color="black", lw=0.8, ls=":", label="Poisson")
    axis.set(xlim=(x[0], x[-1]), xlabel="mean count of a gene" if counted else "mean log-normalised value of a gene")
    _finish(axis, loc=loc)


def _per_gene(cells: Prepared) -> Iterator[tuple[np.ndarray, sparse.csr_matrix, dict[str, Any]]]:
    """Mean of every gene, the counts (or values, where one set has no counts), and how to draw them, real first."""
    counted = cells.synthetic.counts is not None
    for side, members, marker in ((REAL, cells.real, "o"), (GENERATED, cells.synthetic, "x")):
        matrix = members.counts if counted and members.counts is not None else members.values
        style = {"s": 10, "color": COLORS[side], "label": side, "marker": marker, "alpha": 0.5, "linewidths": 0.8}
        yield np.asarray(matrix.mean(0)).ravel(), matrix, style


def _text(name: str) -> str:
    """A name as matplotlib shall draw it: a dollar is a dollar, and no formula."""
    return name.replace("$", r"\$")


def _finish(axis: Axes, *, loc: str, **legend: Any) -> None:
    # Never matplotlib's "best" place, which takes seconds to find among many dots.
    axis.legend(**{"loc": loc, "frameon": False, **legend})
    axis.spines[["top", "right"]].set_visible(False)
