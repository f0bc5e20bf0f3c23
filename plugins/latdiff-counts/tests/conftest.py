"""Independent implementations to compare with, and what the tests of several decoders share."""

from __future__ import annotations

import warnings

import pytest
import torch

from latdiff_core.interfaces import GeneStatistics


@pytest.fixture(scope="session")
def scvi_distributions():
    """scvi-tools' count distributions; importing them warns about other packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import scvi.distributions
    return scvi.distributions


@pytest.fixture(scope="session")
def make_statistics():
    """Uneven gene statistics, the same for the same number of genes."""

    def make(genes: int) -> GeneStatistics:
        generator = torch.Generator().manual_seed(0)
        fraction = torch.exp(2 * torch.randn(genes, generator=generator))
        theta = torch.exp(torch.randn(genes, generator=generator))
        return GeneStatistics(fraction=fraction / fraction.sum(), theta=theta)

    return make
