"""The generalized Poisson decoder for latdiff."""

from latdiff_example.generalized_poisson import (
    GeneralizedPoisson,
    GeneralizedPoissonDecoder,
    GeneralizedPoissonDecoderConfig,
)

__all__ = ["GeneralizedPoisson", "GeneralizedPoissonDecoder", "GeneralizedPoissonDecoderConfig"]
