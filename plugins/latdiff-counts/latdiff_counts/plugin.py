"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_counts import MLPEncoderConfig, NegativeBinomialDecoderConfig, ZeroInflatedNegativeBinomialDecoderConfig


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [MLPEncoderConfig, NegativeBinomialDecoderConfig, ZeroInflatedNegativeBinomialDecoderConfig]
