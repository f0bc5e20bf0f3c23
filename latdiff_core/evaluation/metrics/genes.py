"""Gene by gene: moments, zeros, whole distributions, and how genes go together."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import sparse

from latdiff_core.evaluation.cells import CellSet, Reference, gene_moments
from latdiff_core.evaluation.metrics.metric import Metric, Score

CORRELATED_GENES = 200
CHUNK = 500


class GeneAgreement(Metric):
    """Differences of each gene's moments, zeros and distribution, in log1p of counts per 10,000.

    Differences, not correlations over genes: the profile of the wrong cell type correlates 0.8 with the right one.
    """

    title = "Genes"
    scores: ClassVar = {
        "gene_mean": Score("gene means, error", "Mean absolute difference of the genes' means."),
        "gene_variance": Score("gene variances, error", "Mean absolute difference of the genes' variances."),
        "gene_zeros": Score("zeros per gene, error", "Mean absolute difference of the genes' shares of zeros."),
        "gene_wasserstein": Score(
            "gene distributions, error", "Mean over genes of the 1-Wasserstein distance of their values."
        ),
        "gene_correlation": Score(
            "gene-gene correlations",
            "Correlation, over all pairs of (up to) 200 most variable genes, of their correlations in one set and in "
            "the other: low when genes no longer go together.",
        ),
    }

    def measure(self, cells: CellSet, half: CellSet, reference: Reference) -> dict[str, float]:
        (mean, variance), (real_mean, real_variance) = gene_moments(cells.values), gene_moments(half.values)
        genes = reference.variable_genes[:CORRELATED_GENES]
        return {
            "gene_mean": float(np.abs(mean - real_mean).mean()),
            "gene_variance": float(np.abs(variance - real_variance).mean()),
            "gene_zeros": float(np.abs(zero_share(cells.values) - zero_share(half.values)).mean()),
            "gene_wasserstein": float(gene_wasserstein(cells.values, half.values).mean()),
            "gene_correlation": correlation(
                _gene_correlations(cells.values[:, genes]), _gene_correlations(half.values[:, genes])
            ),
        }


def zero_share(values: sparse.csr_matrix) -> np.ndarray:
    """Share of cells in which each gene is zero, (genes,)."""
    return np.asarray(1 - (values != 0).mean(0)).ravel()


def gene_wasserstein(a: sparse.csr_matrix, b: sparse.csr_matrix) -> np.ndarray:
    """1-Wasserstein distance of each gene's values in two sets of equally many cells, (genes,)."""
    a, b = a.tocsc(), b.tocsc()
    return np.concatenate(
        [
            np.abs(np.sort(a[:, i : i + CHUNK].toarray(), 0) - np.sort(b[:, i : i + CHUNK].toarray(), 0)).mean(0)
            for i in range(0, a.shape[1], CHUNK)
        ]
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; 0 where one of the two does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _gene_correlations(values: sparse.csr_matrix) -> np.ndarray:
    """Correlations of every pair of genes, 0 for genes that do not vary."""
    dense = values.toarray().astype(np.float64)
    dense -= dense.mean(0)
    std = dense.std(0)
    dense /= np.where(std > 0, std, 1.0)
    matrix = dense.T @ dense / len(dense)
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])
