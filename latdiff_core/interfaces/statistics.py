"""What the training counts say of genes, for encoders and decoders to start from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PrincipalComponents:
    """The main directions in which training cells differ, in log1p of counts per 10,000.

    Attributes
    ----------
    mean
        Mean of each gene, (genes,).
    loadings
        Orthonormal directions, those of largest variance first, (genes, components).
    std
        Standard deviation of the training cells along each, (components,), > 0.
    """

    mean: Tensor
    loadings: Tensor
    std: Tensor


@dataclass(frozen=True)
class GeneStatistics:
    """What the training counts say about each gene.

    Attributes
    ----------
    fraction
        Share of all counts that falls on the gene, (genes,), > 0, sums to 1.
    theta
        Method-of-moments inverse dispersion around library x fraction, (genes,), > 0.
    log_library
        Mean of the cells' log total counts.
    components
        How genes vary together, at most 50 components; None where nobody computed it.
    """

    fraction: Tensor
    theta: Tensor
    log_library: float = 0.0
    components: PrincipalComponents | None = None
