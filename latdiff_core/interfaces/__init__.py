"""The seven interfaces that components implement, each with the base of its configs."""

from latdiff_core.interfaces.component import ComponentConfig, Config, Fraction
from latdiff_core.interfaces.conditioner import Conditioner, ConditionerConfig, MakeConditioner, Unconditional
from latdiff_core.interfaces.covariates import Covariates, Sizes
from latdiff_core.interfaces.decoder import CountDistribution, Decoder, DecoderConfig, as_csr
from latdiff_core.interfaces.denoiser import Denoiser, DenoiserConfig
from latdiff_core.interfaces.encoder import Encoder, EncoderConfig
from latdiff_core.interfaces.guidance import BranchedDenoise, Guidance, GuidanceConfig
from latdiff_core.interfaces.sampler import Denoise, Sampler, SamplerConfig
from latdiff_core.interfaces.schedule import Schedule, ScheduleConfig
from latdiff_core.interfaces.statistics import GeneStatistics, PrincipalComponents

INTERFACES: tuple[type[ComponentConfig], ...] = (
    EncoderConfig,
    DecoderConfig,
    DenoiserConfig,
    ScheduleConfig,
    ConditionerConfig,
    GuidanceConfig,
    SamplerConfig,
)
"""The base config of every interface, in the order of a model's parts."""

__all__ = [
    "INTERFACES",
    "BranchedDenoise",
    "ComponentConfig",
    "Conditioner",
    "ConditionerConfig",
    "Config",
    "CountDistribution",
    "Covariates",
    "Decoder",
    "DecoderConfig",
    "Denoise",
    "Denoiser",
    "DenoiserConfig",
    "Encoder",
    "EncoderConfig",
    "Fraction",
    "GeneStatistics",
    "Guidance",
    "GuidanceConfig",
    "MakeConditioner",
    "PrincipalComponents",
    "Sampler",
    "SamplerConfig",
    "Schedule",
    "ScheduleConfig",
    "Sizes",
    "Unconditional",
    "as_csr",
]
