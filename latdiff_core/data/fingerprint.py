"""A fingerprint of training data, so that a run can say what it was fitted on."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import sparse

from latdiff_core.conditions import Conditions
from latdiff_core.schema import DataSchema


def fingerprint(counts: sparse.csr_matrix, schema: DataSchema, conditions: Conditions) -> str:
    """SHA-256 over the counts, the gene names and the condition values."""
    digest = hashlib.sha256(schema.model_dump_json().encode())
    for array in (counts.indptr, counts.indices, counts.data, *(v.numpy() for v in conditions.values)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
