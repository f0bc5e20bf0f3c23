"""Typed configs: the sections, the open component fields, loading and dumping."""

from latdiff_core.configs.loading import (
    Overrides,
    apply_overrides,
    config_schema,
    dump_config,
    load_config,
    parse_override,
    read_config,
    recipe_config,
)
from latdiff_core.configs.sections import (
    AutoencoderConfig,
    AutoencoderTraining,
    CategoricalConfig,
    ConditionConfig,
    ContinuousConfig,
    DataConfig,
    DiffusionConfig,
    DiffusionTraining,
    ModelConfig,
    TrainingConfig,
    VectorConfig,
)

__all__ = [
    "AutoencoderConfig",
    "AutoencoderTraining",
    "CategoricalConfig",
    "ConditionConfig",
    "ContinuousConfig",
    "DataConfig",
    "DiffusionConfig",
    "DiffusionTraining",
    "ModelConfig",
    "Overrides",
    "TrainingConfig",
    "VectorConfig",
    "apply_overrides",
    "config_schema",
    "dump_config",
    "load_config",
    "parse_override",
    "read_config",
    "recipe_config",
]
