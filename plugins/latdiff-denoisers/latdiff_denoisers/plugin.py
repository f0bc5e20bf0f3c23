"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_denoisers import DiTConfig, ResNetMLPConfig, UNetConfig


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [DiTConfig, ResNetMLPConfig, UNetConfig]
