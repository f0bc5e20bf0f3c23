"""Real counts that come with an installed package."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData


def demo_data() -> AnnData:
    """700 PBMCs x 765 genes of Zheng et al. 2017 with raw counts in ``X`` and ``obs["cell_type"]``.

    They are inside the scanpy wheel, log-normalised; the integers are recovered exactly, since the library sizes are
    known: counts = expm1(value) x library / 10,000.
    """
    import anndata
    import scanpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is older than the reader
        reduced = scanpy.datasets.pbmc68k_reduced()
    library = reduced.obs["n_counts"].to_numpy(dtype=np.float64)
    normalised = sparse.csr_matrix(reduced.raw.X, dtype=np.float64)
    exact = sparse.diags(library / 1e4) @ normalised.expm1()
    counts = sparse.csr_matrix(exact)
    counts.data = np.rint(counts.data).astype(np.float32)
    counts.eliminate_zeros()
    obs = reduced.obs[["bulk_labels"]].rename(columns={"bulk_labels": "cell_type"})
    return anndata.AnnData(X=counts.astype(np.float32), obs=obs, var=reduced.raw.var[[]])
