"""The straight path of flow matching."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latdiff_core.interfaces import Schedule, ScheduleConfig


class FlowSchedule(Schedule):
    """alpha = 1 - t, sigma = t: the straight line from data to noise (Lipman et al. 2023, arXiv:2210.02747, Eq. 20)."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        return 1 - t, t.clone()


class FlowScheduleConfig(ScheduleConfig):
    """The straight line from data to noise."""

    kind: Literal["flow"] = "flow"

    def build(self) -> FlowSchedule:
        return FlowSchedule()
