"""The first reading of training data: cells' library sizes, how large their counts are, and a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latdiff_core.conditions import Annotations
from latdiff_core.data.chunks import Counts, chunks
from latdiff_core.schema import DataSchema

SMALL = 10
"""Counts of molecules (UMIs) are below it, mostly 1 to 3, where they are not zero; reads of full-length protocols are
tens to thousands."""
MOST_NONZERO = 0.7
"""With more the genes are few and abundant, and large counts are no sign of reads."""


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
    small_share
        Share of those that are below 10.
    """

    library: Tensor
    fingerprint: str
    nonzero_share: float
    small_share: float

    @property
    def of_reads(self) -> bool:
        """Whether these look like sequencing reads, which amplification multiplied, instead of molecules."""
        return self.small_share < 0.5 and self.nonzero_share < MOST_NONZERO


def read_through(counts: Counts, schema: DataSchema, annotations: Annotations) -> FirstReading:
    """Read all counts once, a chunk at a time; counts on disk are so checked before anything is done with them.

    Raises
    ------
    DataError
        If counts on disk are no raw counts.
    """
    entries, genes, values = (hashlib.sha256() for _ in range(3))  # one each: no trace of how chunks are cut
    libraries, nonzeros, small = [], 0, 0
    for chunk in chunks(counts):
        nonzeros += chunk.nnz
        small += int(np.count_nonzero(chunk.data < SMALL))
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
    shares = nonzeros / max(1, counts.shape[0] * counts.shape[1]), small / max(1, nonzeros)
    return FirstReading(library, digest.hexdigest(), *shares)
