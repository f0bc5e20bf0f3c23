"""Conditioners and guidance for latdiff."""

from latdiff_conditioning.classifier_free import ClassifierFreeGuidance, ClassifierFreeGuidanceConfig
from latdiff_conditioning.concat import ConcatConditioner, ConcatConditionerConfig
from latdiff_conditioning.film import FiLMConditioner, FiLMConditionerConfig

__all__ = [
    "ClassifierFreeGuidance",
    "ClassifierFreeGuidanceConfig",
    "ConcatConditioner",
    "ConcatConditionerConfig",
    "FiLMConditioner",
    "FiLMConditionerConfig",
]
