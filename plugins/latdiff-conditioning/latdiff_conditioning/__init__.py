"""Conditioners and guidance for latdiff."""

from latdiff_conditioning.adaln import AdaLNConditioner, AdaLNConditionerConfig
from latdiff_conditioning.classifier_free import ClassifierFreeGuidance, ClassifierFreeGuidanceConfig
from latdiff_conditioning.compositional import CompositionalGuidance, CompositionalGuidanceConfig
from latdiff_conditioning.concat import ConcatConditioner, ConcatConditionerConfig
from latdiff_conditioning.cross_attention import CrossAttentionConditioner, CrossAttentionConditionerConfig
from latdiff_conditioning.film import FiLMConditioner, FiLMConditionerConfig
from latdiff_conditioning.interval import IntervalGuidance, IntervalGuidanceConfig
from latdiff_conditioning.none import NoGuidance, NoGuidanceConfig

__all__ = [
    "AdaLNConditioner",
    "AdaLNConditionerConfig",
    "ClassifierFreeGuidance",
    "ClassifierFreeGuidanceConfig",
    "CompositionalGuidance",
    "CompositionalGuidanceConfig",
    "ConcatConditioner",
    "ConcatConditionerConfig",
    "CrossAttentionConditioner",
    "CrossAttentionConditionerConfig",
    "FiLMConditioner",
    "FiLMConditionerConfig",
    "IntervalGuidance",
    "IntervalGuidanceConfig",
    "NoGuidance",
    "NoGuidanceConfig",
]
