"""latdiff: synthetic single-cell counts by latent diffusion, from parts that anyone can swap.

The public names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latdiff_core.configs import ModelConfig
    from latdiff_core.counts import CountBatch
    from latdiff_core.errors import LatdiffError
    from latdiff_core.hookspecs import hookimpl
    from latdiff_core.model import LatentDiffusion

__all__ = ["CountBatch", "LatdiffError", "LatentDiffusion", "ModelConfig", "hookimpl"]

_HOMES = {
    "CountBatch": "counts",
    "LatdiffError": "errors",
    "LatentDiffusion": "model",
    "ModelConfig": "configs",
    "hookimpl": "hookspecs",
}

try:
    __version__ = version("latdiff-core")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
