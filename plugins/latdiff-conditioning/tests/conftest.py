"""A network whose answers are known, for tests of guidance."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def network():
    """A denoiser whose clean latent is 3 with the condition and 1 without, and the branches it was asked for."""
    calls = []

    def denoise(z_t, t, keep):
        calls.append(keep.tolist())
        return torch.stack([torch.full_like(z_t, 3.0 if branch.all() else 1.0) for branch in keep])

    return denoise, calls
