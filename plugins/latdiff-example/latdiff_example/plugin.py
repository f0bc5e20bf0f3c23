"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_example import GeneralizedPoissonDecoderConfig


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [GeneralizedPoissonDecoderConfig]
