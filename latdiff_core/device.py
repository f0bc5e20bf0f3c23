"""Where networks compute: the choice between CPU and GPU, moves to a GPU that wait for nothing, and a compiler."""

from __future__ import annotations

import os
import shutil
from typing import Literal, get_args

import torch
from torch import Tensor

from latdiff_core.errors import ConfigError
from latdiff_core.ranks import local_rank

__all__ = ["Accelerator", "chosen_device", "moved", "require_compiler", "uses_gpu"]

Accelerator = Literal["auto", "cpu", "gpu"]
"""Where to compute; ``auto`` is a GPU if there is one."""


def uses_gpu(accelerator: Accelerator) -> bool:
    """Whether an NVIDIA or AMD GPU computes; Apple's has none of the float64 that schedules need.

    Raises
    ------
    ConfigError
        If one is asked for and there is none, or something else is asked for.
    """
    if accelerator not in get_args(Accelerator):
        raise ConfigError(f"accelerator is {accelerator!r}; give one of {', '.join(get_args(Accelerator))}")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator is gpu, and there is none here that torch can use; give auto or cpu")
    return accelerator != "cpu" and torch.cuda.is_available()


def chosen_device(accelerator: Accelerator) -> torch.device:
    """The CPU, or a GPU: of several processes on one machine each its own."""
    if not uses_gpu(accelerator):
        return torch.device("cpu")
    return torch.device("cuda", local_rank() % torch.cuda.device_count())


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device.

    To a GPU it goes through pinned memory: from other memory the copy begins when the GPU has done all its work, and
    the CPU waits for that. What is compiled has no pinned memory.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu" and not torch.compiler.is_compiling():
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def require_compiler() -> None:
    """Raise a ConfigError where there is no C++ compiler, which `torch.compile` calls, on a GPU as on a CPU."""
    named = os.environ.get("CXX", "").split()[:1]
    if not any(shutil.which(name) for name in (*named, "g++", "clang++", "cl")):
        raise ConfigError(
            "training.compile is true, and there is no C++ compiler here, which torch.compile needs; install g++ or "
            "clang++, name one in the environment variable CXX, or leave training.compile false"
        )
