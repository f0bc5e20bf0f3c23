"""What this distribution adds to latdiff."""

from latdiff_conditioning import ClassifierFreeGuidanceConfig, ConcatConditionerConfig, FiLMConditionerConfig
from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [ClassifierFreeGuidanceConfig, ConcatConditionerConfig, FiLMConditionerConfig]
