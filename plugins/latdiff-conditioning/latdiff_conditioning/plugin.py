"""What this distribution adds to latdiff."""

from latdiff_conditioning import (
    AdaLNConditionerConfig,
    ClassifierFreeGuidanceConfig,
    CompositionalGuidanceConfig,
    ConcatConditionerConfig,
    CrossAttentionConditionerConfig,
    FiLMConditionerConfig,
    IntervalGuidanceConfig,
    NoGuidanceConfig,
)
from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [
        AdaLNConditionerConfig,
        ClassifierFreeGuidanceConfig,
        CompositionalGuidanceConfig,
        ConcatConditionerConfig,
        CrossAttentionConditionerConfig,
        FiLMConditionerConfig,
        IntervalGuidanceConfig,
        NoGuidanceConfig,
    ]
