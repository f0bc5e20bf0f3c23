"""Encoders and count decoders for latdiff."""

from latdiff_counts.mlp import MLPEncoder, MLPEncoderConfig
from latdiff_counts.negative_binomial import NegativeBinomial, NegativeBinomialDecoder, NegativeBinomialDecoderConfig
from latdiff_counts.zero_inflated_negative_binomial import (
    ZeroInflatedNegativeBinomial,
    ZeroInflatedNegativeBinomialDecoder,
    ZeroInflatedNegativeBinomialDecoderConfig,
)

__all__ = [
    "MLPEncoder",
    "MLPEncoderConfig",
    "NegativeBinomial",
    "NegativeBinomialDecoder",
    "NegativeBinomialDecoderConfig",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedNegativeBinomialDecoder",
    "ZeroInflatedNegativeBinomialDecoderConfig",
]
