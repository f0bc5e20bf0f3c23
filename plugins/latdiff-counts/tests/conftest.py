"""An independent implementation to compare with."""

from __future__ import annotations

import warnings

import pytest


@pytest.fixture(scope="session")
def scvi_distributions():
    """scvi-tools' count distributions; importing them warns about other packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import scvi.distributions
    return scvi.distributions
