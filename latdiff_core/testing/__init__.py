"""The conformance kit: what every implementation of an interface must do, as test classes to subclass.

A plugin's test of a component is three lines::

    class TestMyDenoiser(DenoiserContract):
        config = MyDenoiserConfig(width=32)

and pytest runs the whole contract on it. Class attributes such as ``dims`` widen or narrow what is tried.
"""

from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.conditioner import ConditionerContract
from latdiff_core.testing.decoder import AnyDecoderContract, DecoderContract
from latdiff_core.testing.denoiser import DenoiserContract
from latdiff_core.testing.encoder import EncoderContract
from latdiff_core.testing.guidance import GuidanceContract
from latdiff_core.testing.sampler import SamplerContract
from latdiff_core.testing.schedule import ScheduleContract
from latdiff_core.testing.toys import AddCondition, CircleSchedule, JoinTime, StraightSchedule, nudge

__all__ = [
    "AddCondition",
    "AnyDecoderContract",
    "CircleSchedule",
    "ComponentContract",
    "ConditionerContract",
    "DecoderContract",
    "DenoiserContract",
    "EncoderContract",
    "GuidanceContract",
    "JoinTime",
    "SamplerContract",
    "ScheduleContract",
    "StraightSchedule",
    "nudge",
]
