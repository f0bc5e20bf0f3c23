"""The first reading of training data: cells' library sizes, the share of non-zeros, and a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latdiff_core.conditions import Annotations
from latdiff_core.data.chunks import Counts, chunks
from latdiff_core.schema import DataSchema


@dataclass(frozen=True)
class FirstReading:
    """What is found in the one reading of all cells before training begins.

    Attributes
    ----------
    library
        Library sizes, (cells,), float32.
    fingerprint
        SHA-256 over the counts, the gene names and the attribute values, so that a run can say what it was fitted on;
        the same for the same cells in memory and on disk.
    nonzero_share
        Share of the counts that are not zero.
    """

    library: Tensor
    fingerprint: str
    nonzero_share: float


def read_through(counts: Counts, schema: DataSchema, annotations: Annotations) -> FirstReading:
    """Read all counts once, a chunk at a time; counts on disk are so checked before anything is done with them.

    Raises
    ------
    DataError
        If counts on disk are no raw counts.
    """
    entries, genes, values = (hashlib.sha256() for _ in range(3))  # one each: no trace of how chunks are cut
    libraries, nonzeros = [], 0
    for chunk in chunks(counts):
        nonzeros += chunk.nnz
        entries.update(np.diff(chunk.indptr).astype(np.int64).data)
        genes.update(chunk.indices.astype(np.int32, copy=False).data)
        values.update(chunk.data.data)
        libraries.append(np.asarray(chunk.sum(1)).ravel())
    digest = hashlib.sha256(schema.model_dump_json().encode())
    for part in (entries, genes, values):
        digest.update(part.digest())
    for tensor in (*annotations.conditions.values, *annotations.nuisance.values):
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    library = torch.as_tensor(np.concatenate(libraries), dtype=torch.float32)
    return FirstReading(library, digest.hexdigest(), nonzeros / max(1, counts.shape[0] * counts.shape[1]))
