"""A fingerprint of training data, so that a run can say what it was fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latdiff_core.conditions import Annotations
from latdiff_core.schema import DataSchema


def fingerprint(counts: sparse.csr_matrix, schema: DataSchema, annotations: Annotations) -> str:
    """SHA-256 over the counts, the gene names and the attribute values."""
    digest = hashlib.sha256(schema.model_dump_json().encode())
    tensors = [v.numpy() for v in (*annotations.conditions.values, *annotations.nuisance.values)]
    for array in (counts.indptr, counts.indices, counts.data, *tensors):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def tensor_digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over the types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
