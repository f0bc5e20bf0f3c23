"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from latdiff_core.device import chosen_device

REPEATS = 9


def seconds(function: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median time of a call, after one that warms up."""
    function()
    return float(np.median([once(function) for _ in range(repeats)]))


def once(function: Callable[[], Any]) -> float:
    """Time of a call, and of all that it leaves a GPU to do."""
    wait_for_gpu()
    start = time.perf_counter()
    function()
    wait_for_gpu()
    return time.perf_counter() - start


def wait_for_gpu() -> None:
    """Return when a GPU, if one is at work, has done it."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def name_of(accelerator: str) -> str:
    """What computes: a GPU by its name."""
    device = chosen_device(accelerator)
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
