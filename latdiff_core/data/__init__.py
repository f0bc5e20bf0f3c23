"""AnnData in and out: the only part of latdiff, beside evaluation, that knows AnnData."""

from latdiff_core.data.chunks import Counts, chunks
from latdiff_core.data.demo import demo_data
from latdiff_core.data.files import check_output, open_anndata, read_anndata, write_anndata
from latdiff_core.data.first_reading import FirstReading, read_through
from latdiff_core.data.gene_statistics import gene_statistics, principal_components
from latdiff_core.data.observations import (
    annotation_table,
    attribute_column,
    decode_obs,
    decode_obsm,
    encode_obs,
    unknown_values,
)
from latdiff_core.data.on_disk import open_counts
from latdiff_core.data.parts import PartsFolder
from latdiff_core.data.raw_counts import aligned_counts, aligned_values, counts_per_10k, raw_counts
from latdiff_core.data.request import Request, read_request
from latdiff_core.data.schema_building import build_schema
from latdiff_core.data.split import stratified_split
from latdiff_core.data.streaming import write_parts
from latdiff_core.data.training_cells import MatchingCells, TrainingCells

__all__ = [
    "Counts",
    "FirstReading",
    "MatchingCells",
    "PartsFolder",
    "Request",
    "TrainingCells",
    "aligned_counts",
    "aligned_values",
    "annotation_table",
    "attribute_column",
    "build_schema",
    "check_output",
    "chunks",
    "counts_per_10k",
    "decode_obs",
    "decode_obsm",
    "demo_data",
    "encode_obs",
    "gene_statistics",
    "open_anndata",
    "open_counts",
    "principal_components",
    "raw_counts",
    "read_anndata",
    "read_request",
    "read_through",
    "stratified_split",
    "unknown_values",
    "write_anndata",
    "write_parts",
]
