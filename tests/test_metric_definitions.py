"""Metrics are what their names say, from independent definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import wasserstein_distance
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from latdiff_core.data import counts_per_10k
from latdiff_core.evaluation import evaluation as evaluating
from latdiff_core.evaluation import mmd2
from latdiff_core.evaluation.cells import CellSet, Reference, gene_moments
from latdiff_core.evaluation.metrics.coverage import Coverage, coverage
from latdiff_core.evaluation.metrics.effects import ConditionEffects, _markers
from latdiff_core.evaluation.metrics.genes import GeneAgreement
from latdiff_core.evaluation.metrics.labels import LabelAccuracy, TrainOnSynthetic
from latdiff_core.evaluation.metrics.library import LibrarySize
from latdiff_core.evaluation.metrics.two_sample import two_sample_auc
from latdiff_core.evaluation.space import ExpressionSpace


@pytest.fixture(scope="module")
def sets():
    """Two sets of 60 cells x 130 genes and two conditions; one says the wrong one of a third of its cells."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.5, 4.0, (2, 130))

    def make(wrong, depth):
        labels = rng.permutation(np.repeat(["a", "b"], [40, 20]))
        rate = profiles[(labels == "b").astype(int)] * rng.lognormal(depth, 0.6, (60, 1))
        counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
        shown = np.where(rng.random(60) < wrong, "b", labels)
        return counts, shown

    (counts, labels), (others, others_labels), (training, training_labels) = (
        make(0.35, 0.0),
        make(0.0, 0.3),
        make(0.0, 0.0),
    )
    space = ExpressionSpace.fit(training, 5)
    fake, half, train = (
        CellSet(counts_per_10k(x), x, space.project(x), y)
        for x, y in ((counts, labels), (others, others_labels), (training, training_labels))
    )
    return fake, half, Reference(train, train.points, space, tuple(map(str, range(130))), {"b": None, "a": None}, 0)


def test_mmd_equals_scikit_learns_kernels():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 4)), rng.normal(size=(40, 4)) + 0.5
    both = np.concatenate([a, b])
    median = np.median(euclidean_distances(both, squared=True)[np.triu_indices(70, 1)])
    expected = 0.0
    for c in (0.5, 1, 2):
        k = rbf_kernel(both, gamma=1 / (c * median))
        expected += ((k[:30, :30].sum() - 30) / 870 + (k[30:, 30:].sum() - 40) / 1560 - 2 * k[:30, 30:].mean()) / 3
    assert mmd2(a, b) == pytest.approx(expected)


def test_coverage_looks_at_five_neighbours(sets):
    fake, half, reference = sets
    found = Coverage().measure(fake, half, reference)
    assert found == coverage(half.points, fake.points, 5)
    assert found != coverage(half.points, fake.points, 10)


def test_gene_scores_equal_their_definitions(sets):
    fake, half, reference = sets
    a, b = fake.values.toarray().astype(float), half.values.toarray().astype(float)
    found = GeneAgreement().measure(fake, half, reference)
    assert found["gene_mean"] == pytest.approx(np.abs(a.mean(0) - b.mean(0)).mean(), rel=1e-4)
    assert found["gene_variance"] == pytest.approx(np.abs(a.var(0) - b.var(0)).mean(), rel=1e-4)
    assert found["gene_zeros"] == pytest.approx(np.abs((a == 0).mean(0) - (b == 0).mean(0)).mean(), rel=1e-4)
    order = np.argsort(-reference.cells.values.toarray().astype(float).var(0), kind="stable")
    assert set(reference.variable_genes[:20]) == set(order[:20])


def test_moments_of_genes_that_hardly_vary_are_exact():
    values = np.random.default_rng(0).normal(7.12, 1e-3, (20_000, 3)).astype(np.float32)
    mean, variance = gene_moments(sparse.csr_matrix(values))
    np.testing.assert_allclose(mean, values.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(variance, values.var(0, dtype=np.float64), rtol=1e-6)


def test_depth_is_compared_as_a_distribution(sets):
    fake, half, reference = sets
    mixed = half[np.random.default_rng(1).permutation(60)]
    assert LibrarySize().measure(mixed, half, reference)["library_wasserstein"] == pytest.approx(0, abs=1e-12)
    wide = CellSet(
        fake.values,
        fake.counts.multiply(np.where(np.arange(60) % 2, 8, 0.125)[:, None]).tocsr(),
        fake.points,
        fake.labels,
    )
    expected = wasserstein_distance(np.log1p(wide.library), np.log1p(half.library))
    assert LibrarySize().measure(wide, half, reference)["library_wasserstein"] == pytest.approx(expected)
    assert expected > 1.02 * abs(np.log1p(wide.library).mean() - np.log1p(half.library).mean())


def test_label_scores_learn_from_the_cells_they_name(sets):
    def learned(cells):
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(cells.points, cells.labels)

    fake, half, reference = sets
    use = TrainOnSynthetic().measure(fake, half, reference)["train_synthetic"]
    assert use == pytest.approx(balanced_accuracy_score(half.labels, learned(fake).predict(half.points)))
    moved = CellSet(half.values, half.counts, half.points[::-1], half.labels)  # a half that teaches something else
    accuracy = LabelAccuracy().measure(fake, moved, reference)["label_accuracy"]
    assert accuracy == pytest.approx((learned(reference.cells).predict(fake.points) == fake.labels).mean())


def test_effects_equal_their_definitions(sets):
    fake, half, reference = sets
    found = ConditionEffects().measure(fake, half, reference)

    def effect(cells):
        values = cells.values.toarray().astype(float)
        return values[cells.labels == "b"].mean(0) - values[cells.labels == "a"].mean(0)

    ours, real = effect(fake), effect(half)
    assert found["effect_correlation"] == pytest.approx(np.corrcoef(ours, real)[0, 1], rel=1e-4)
    assert found["effect_error"] == pytest.approx(np.linalg.norm(ours - real) / np.linalg.norm(real), rel=1e-4)
    pairs = [("a", None), ("b", None)]
    of_fake, of_half = (_markers(cells, pairs) for cells in (fake, half))
    shares = [len(of_fake[label] & of_half[label]) / 50 for label in "ab"]
    assert 0.2 < shares[0] < 0.98
    assert found["marker_overlap"] == pytest.approx(np.mean(shares))


def test_the_two_sample_score_is_an_area_under_the_curve():
    a, b = np.random.default_rng(0).normal(size=(2, 200, 2))
    b = b + 0.8
    rows, sides = np.concatenate([a, b]), np.repeat([0, 1], 200)
    forest = RandomForestClassifier(100, random_state=1)
    p = cross_val_predict(
        forest, rows, sides, cv=StratifiedKFold(5, shuffle=True, random_state=1), method="predict_proba"
    )[:, 1]
    area = roc_auc_score(sides, p)
    assert area > ((p > 0.5) == sides).mean() + 0.03
    assert two_sample_auc(a, b, 1) == pytest.approx(area, abs=0.015)


def test_conditions_are_compared_with_equally_many_cells(sets, monkeypatch):
    fake, half, reference = sets
    seen = []
    monkeypatch.setattr(evaluating, "wasserstein2", lambda a, b: seen.append((len(a), len(b))) or 0.0)
    monkeypatch.setattr(evaluating, "mmd2", lambda a, b: seen.append((len(a), len(b))) or 0.0)
    rows = evaluating._by_condition({"generated": fake, "real": half}, half, reference)
    for label in "ab":
        assert {row["cells"] for row in rows if row["condition"] == label} == {
            min((s.labels == label).sum() for s in (fake, half))
        }
    assert [n for pair in seen for n in pair] == [row["cells"] for row in rows for _ in range(4)]
