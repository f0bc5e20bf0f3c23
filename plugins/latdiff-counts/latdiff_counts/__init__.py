"""Encoders and count decoders for latdiff."""

from latdiff_counts.gaussian import Gaussian, GaussianDecoder, GaussianDecoderConfig
from latdiff_counts.mlp import MLPEncoder, MLPEncoderConfig
from latdiff_counts.negative_binomial import NegativeBinomial, NegativeBinomialDecoder, NegativeBinomialDecoderConfig
from latdiff_counts.negative_binomial_mixture import (
    NegativeBinomialMixture,
    NegativeBinomialMixtureDecoder,
    NegativeBinomialMixtureDecoderConfig,
)
from latdiff_counts.pca_mlp import PCAMLPEncoder, PCAMLPEncoderConfig
from latdiff_counts.poisson import Poisson, PoissonDecoder, PoissonDecoderConfig
from latdiff_counts.set_transformer import SetTransformerEncoder, SetTransformerEncoderConfig
from latdiff_counts.zero_inflated_negative_binomial import (
    ZeroInflatedNegativeBinomial,
    ZeroInflatedNegativeBinomialDecoder,
    ZeroInflatedNegativeBinomialDecoderConfig,
)

__all__ = [
    "Gaussian",
    "GaussianDecoder",
    "GaussianDecoderConfig",
    "MLPEncoder",
    "MLPEncoderConfig",
    "NegativeBinomial",
    "NegativeBinomialDecoder",
    "NegativeBinomialDecoderConfig",
    "NegativeBinomialMixture",
    "NegativeBinomialMixtureDecoder",
    "NegativeBinomialMixtureDecoderConfig",
    "PCAMLPEncoder",
    "PCAMLPEncoderConfig",
    "Poisson",
    "PoissonDecoder",
    "PoissonDecoderConfig",
    "SetTransformerEncoder",
    "SetTransformerEncoderConfig",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedNegativeBinomialDecoder",
    "ZeroInflatedNegativeBinomialDecoderConfig",
]
