"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_processes import DDIMSamplerConfig, FlowScheduleConfig, HeunSamplerConfig, LinearScheduleConfig


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [DDIMSamplerConfig, FlowScheduleConfig, HeunSamplerConfig, LinearScheduleConfig]
