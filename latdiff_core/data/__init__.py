"""AnnData in and out: the only part of latdiff, beside evaluation, that knows AnnData."""

from latdiff_core.data.chunks import Counts, chunks
from latdiff_core.data.demo import demo_data
from latdiff_core.data.files import check_output, read_anndata, refuse_existing, write_anndata
from latdiff_core.data.first_reading import FirstReading, read_through
from latdiff_core.data.gene_statistics import gene_statistics, principal_components
from latdiff_core.data.observations import annotation_table, decode_obs, decode_obsm, encode_obs, unknown_values
from latdiff_core.data.on_disk import open_counts
from latdiff_core.data.raw_counts import aligned_counts, aligned_values, counts_per_10k, raw_counts
from latdiff_core.data.request import TrainingCells, requested_conditions, requested_library
from latdiff_core.data.schema_building import build_schema
from latdiff_core.data.split import stratified_split

__all__ = [
    "Counts",
    "FirstReading",
    "TrainingCells",
    "aligned_counts",
    "aligned_values",
    "annotation_table",
    "build_schema",
    "check_output",
    "chunks",
    "counts_per_10k",
    "decode_obs",
    "decode_obsm",
    "demo_data",
    "encode_obs",
    "gene_statistics",
    "open_counts",
    "principal_components",
    "raw_counts",
    "read_anndata",
    "read_through",
    "refuse_existing",
    "requested_conditions",
    "requested_library",
    "stratified_split",
    "unknown_values",
    "write_anndata",
]
