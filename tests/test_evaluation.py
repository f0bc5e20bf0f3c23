"""Distances and the comparison table."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from latdiff_core.data import demo_data
from latdiff_core.errors import DataError
from latdiff_core.evaluation import ExpressionSpace, compare, mmd2, overview_figure, wasserstein2


@pytest.fixture(scope="module")
def pbmcs() -> anndata.AnnData:
    return demo_data()


@pytest.fixture(scope="module")
def halves(pbmcs) -> tuple[anndata.AnnData, anndata.AnnData, anndata.AnnData]:
    """Training, held-out and further real cells that stand for a perfect generator."""
    order = np.random.default_rng(0).permutation(pbmcs.n_obs)
    return tuple(pbmcs[part].copy() for part in np.split(order, [300, 500]))


def test_wasserstein_equals_the_optimal_assignment():
    a, b = np.random.default_rng(0).normal(size=(2, 25, 3))
    costs = ((a[:, None] - b[None]) ** 2).sum(-1)
    assert wasserstein2(a, b) == pytest.approx(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


def test_wasserstein_of_a_shift_is_its_length():
    a = np.random.default_rng(0).normal(size=(40, 3))
    assert wasserstein2(a, a + np.array([3, 0, 4])) == pytest.approx(5)


def test_mmd_is_unbiased():
    """B29: over many pairs of small samples of one distribution the biased form averages 0.05, not 0."""
    rng = np.random.default_rng(0)
    values = [mmd2(*rng.normal(size=(2, 20, 5))) for _ in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert mmd2(rng.normal(size=(100, 5)), rng.normal(size=(100, 5)) + 1) > 0.05


def test_projection_is_centred_by_the_reference(pbmcs):
    """B28: the reference's own projection has mean 0, and every other set is moved by the same mean."""
    space = ExpressionSpace.fit(pbmcs.X)
    np.testing.assert_allclose(space.project(pbmcs.X).mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(space.project(0 * pbmcs.X[:2]), [-space.mean @ space.loadings] * 2, rtol=1e-4, atol=1e-4)


def test_real_cells_are_at_the_floor(halves):
    train, held_out, perfect = halves
    table = compare(held_out, perfect, train)
    distance = table.loc["2-Wasserstein, 30 PCs"]
    assert distance["synthetic"] == pytest.approx(distance["real"], rel=0.06)
    assert abs(table.loc["MMD^2 (unbiased), 30 PCs", "synthetic"]) < 0.01
    assert (table["cells"] == 100).all()


@pytest.mark.parametrize("fake", ["one count", "mean profile", "shuffled genes"])
def test_bad_generators_are_far_above_the_floor(halves, fake):
    """B28, B30: among them an (almost) all-zero generator, which an uncentred distance prefers to real cells."""
    train, held_out, _ = halves
    match fake:
        case "one count":
            matrix = sparse.csr_matrix((np.ones(200), (np.arange(200), np.arange(200))), (200, held_out.n_vars))
        case "mean profile":
            rates = np.asarray(train.X.mean(0)).ravel()
            matrix = sparse.csr_matrix(np.random.default_rng(0).poisson(rates, (200, len(rates))))
        case _:
            matrix = held_out.X[:, np.random.default_rng(0).permutation(held_out.n_vars)]
    table = compare(held_out, anndata.AnnData(matrix.astype(np.float32), var=held_out.var[[]]), train)
    assert table.loc["MMD^2 (unbiased), 30 PCs", "synthetic"] > 0.05
    distance = table.loc["2-Wasserstein, 30 PCs"]
    assert distance["synthetic"] > 1.1 * distance["real"]


def test_the_same_seed_gives_the_same_table(halves):
    train, held_out, perfect = halves
    assert compare(held_out, perfect, train, seed=1).equals(compare(held_out, perfect, train, seed=1))


def test_other_genes_are_refused(halves):
    train, held_out, perfect = halves
    with pytest.raises(DataError, match="1 are missing"):
        compare(held_out, perfect[:, 1:], train)


def test_too_few_cells_are_refused(halves):
    train, held_out, perfect = halves
    with pytest.raises(DataError, match="too few"):
        compare(held_out[:10], perfect, train)


def test_the_figure_shows_both_sets_and_every_label(halves, monkeypatch):
    train, held_out, perfect = halves
    monkeypatch.setattr("latdiff_core.evaluation.figures._umap", lambda points, seed: points[:, :2])
    figure = overview_figure(held_out, perfect, train, color="cell_type")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["200 held-out real cells", "200 generated cells", "Mean and variance", "Zeros"]
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend == sorted(set(held_out.obs["cell_type"]) | set(perfect.obs["cell_type"]))
