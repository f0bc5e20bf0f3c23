"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_counts import (
    GaussianDecoderConfig,
    MLPEncoderConfig,
    NegativeBinomialDecoderConfig,
    NegativeBinomialMixtureDecoderConfig,
    PoissonDecoderConfig,
    SetTransformerEncoderConfig,
    ZeroInflatedNegativeBinomialDecoderConfig,
)


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [
        MLPEncoderConfig,
        SetTransformerEncoderConfig,
        PoissonDecoderConfig,
        NegativeBinomialDecoderConfig,
        ZeroInflatedNegativeBinomialDecoderConfig,
        NegativeBinomialMixtureDecoderConfig,
        GaussianDecoderConfig,
    ]
