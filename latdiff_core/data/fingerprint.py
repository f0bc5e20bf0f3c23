"""A fingerprint of training data, so that a run can say what it was fitted on."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import sparse

from latdiff_core.conditions import Annotations
from latdiff_core.schema import DataSchema


def fingerprint(counts: sparse.csr_matrix, schema: DataSchema, annotations: Annotations) -> str:
    """SHA-256 over the counts, the gene names and the attribute values."""
    digest = hashlib.sha256(schema.model_dump_json().encode())
    tensors = [v.numpy() for v in (*annotations.conditions.values, *annotations.nuisance.values)]
    for array in (counts.indptr, counts.indices, counts.data, *tensors):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
