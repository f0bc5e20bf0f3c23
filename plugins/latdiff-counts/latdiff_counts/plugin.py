"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_counts import (
    GaussianDecoderConfig,
    MLPEncoderConfig,
    NegativeBinomialDecoderConfig,
    NegativeBinomialMixtureDecoderConfig,
    PCAMLPEncoderConfig,
    PoissonDecoderConfig,
    SetTransformerEncoderConfig,
    ZeroInflatedNegativeBinomialDecoderConfig,
)


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [
        MLPEncoderConfig,
        PCAMLPEncoderConfig,
        SetTransformerEncoderConfig,
        PoissonDecoderConfig,
        NegativeBinomialDecoderConfig,
        ZeroInflatedNegativeBinomialDecoderConfig,
        NegativeBinomialMixtureDecoderConfig,
        GaussianDecoderConfig,
    ]
