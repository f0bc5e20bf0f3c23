"""What this distribution adds to latdiff."""

from latdiff_core import hookimpl
from latdiff_core.interfaces import ComponentConfig
from latdiff_processes import (
    CosineScheduleConfig,
    DDIMSamplerConfig,
    DDPMSamplerConfig,
    DPMpp2MSamplerConfig,
    EDMScheduleConfig,
    EulerSamplerConfig,
    FlowScheduleConfig,
    HeunSamplerConfig,
    LinearScheduleConfig,
    SigmoidScheduleConfig,
)


@hookimpl
def latdiff_components() -> list[type[ComponentConfig]]:
    return [
        CosineScheduleConfig,
        DDIMSamplerConfig,
        DDPMSamplerConfig,
        DPMpp2MSamplerConfig,
        EDMScheduleConfig,
        EulerSamplerConfig,
        FlowScheduleConfig,
        HeunSamplerConfig,
        LinearScheduleConfig,
        SigmoidScheduleConfig,
    ]
