"""Noise schedules and samplers for latdiff."""

from latdiff_processes.ddim import DDIMSampler, DDIMSamplerConfig
from latdiff_processes.flow import FlowSchedule, FlowScheduleConfig
from latdiff_processes.heun import HeunSampler, HeunSamplerConfig
from latdiff_processes.linear import LinearSchedule, LinearScheduleConfig

__all__ = [
    "DDIMSampler",
    "DDIMSamplerConfig",
    "FlowSchedule",
    "FlowScheduleConfig",
    "HeunSampler",
    "HeunSamplerConfig",
    "LinearSchedule",
    "LinearScheduleConfig",
]
