"""Noise schedules and samplers for latdiff."""

from latdiff_processes.cosine import CosineSchedule, CosineScheduleConfig
from latdiff_processes.ddim import DDIMSampler, DDIMSamplerConfig
from latdiff_processes.ddpm import DDPMSampler, DDPMSamplerConfig
from latdiff_processes.dpmpp_2m import DPMpp2MSampler, DPMpp2MSamplerConfig
from latdiff_processes.edm import EDMSchedule, EDMScheduleConfig
from latdiff_processes.euler import EulerSampler, EulerSamplerConfig
from latdiff_processes.flow import FlowSchedule, FlowScheduleConfig
from latdiff_processes.heun import HeunSampler, HeunSamplerConfig
from latdiff_processes.linear import LinearSchedule, LinearScheduleConfig
from latdiff_processes.sigmoid import SigmoidSchedule, SigmoidScheduleConfig

__all__ = [
    "CosineSchedule",
    "CosineScheduleConfig",
    "DDIMSampler",
    "DDIMSamplerConfig",
    "DDPMSampler",
    "DDPMSamplerConfig",
    "DPMpp2MSampler",
    "DPMpp2MSamplerConfig",
    "EDMSchedule",
    "EDMScheduleConfig",
    "EulerSampler",
    "EulerSamplerConfig",
    "FlowSchedule",
    "FlowScheduleConfig",
    "HeunSampler",
    "HeunSamplerConfig",
    "LinearSchedule",
    "LinearScheduleConfig",
    "SigmoidSchedule",
    "SigmoidScheduleConfig",
]
