"""What a denoiser predicts, and how each prediction gives the clean latent back.

With ``z_t = alpha z + sigma eps``:

=========  ==========================  ==================================
name       target                      clean latent
=========  ==========================  ==================================
epsilon    eps                         (z_t - sigma eps) / alpha
clean      z                           z
v          (alpha eps - sigma z) / s   (alpha z_t / s - sigma v) / s
flow       eps - z                     (z_t - sigma flow) / (alpha + sigma)
=========  ==========================  ==================================

where s^2 = alpha^2 + sigma^2. ``epsilon`` is Eq. 14 of Ho et al. 2020 (arXiv:2006.11239); ``v`` is Salimans & Ho 2022
(arXiv:2202.00512, Appendix D) without the assumption s = 1, of unit variance along every path, and with alpha = 1 it is
the preconditioning of Karras et al. 2022 (arXiv:2206.00364, Table 1) for data of unit variance, up to sign; ``flow`` is
Eq. 23 of Lipman et al. 2023 (arXiv:2210.02747) with time reversed.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor

__all__ = [
    "Prediction",
    "target",
    "to_clean",
    "to_epsilon",
    "total_std",
]

Prediction = Literal["epsilon", "clean", "v", "flow"]
"""The names of the predictions."""


def target(prediction: Prediction, z: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the denoiser is trained to output, in the shape of ``z``; alpha and sigma broadcast against it."""
    match prediction:
        case "epsilon":
            return eps
        case "clean":
            return z
        case "v":
            return (alpha * eps - sigma * z) / total_std(alpha, sigma)
        case "flow":
            return eps - z
        case _:
            assert_never(prediction)


def to_clean(prediction: Prediction, output: Tensor, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean latent that a denoiser's output stands for; ``epsilon`` needs alpha > 0."""
    match prediction:
        case "epsilon":
            return (z_t - sigma * output) / alpha
        case "clean":
            return output
        case "v":
            scale = total_std(alpha, sigma)
            return (alpha * z_t / scale - sigma * output) / scale
        case "flow":
            return (z_t - sigma * output) / (alpha + sigma)
        case _:
            assert_never(prediction)


def total_std(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Standard deviation of z_t for latents of unit variance, sqrt(alpha^2 + sigma^2)."""
    return torch.hypot(alpha, sigma)


def to_epsilon(clean: Tensor, z_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """The noise that, with this clean latent, makes ``z_t``; needs sigma > 0."""
    return (z_t - alpha * clean) / sigma
