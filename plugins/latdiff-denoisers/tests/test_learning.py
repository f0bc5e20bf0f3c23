"""Every denoiser learns, from draws alone, what the best possible denoiser is known to be."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.testing import AddCondition
from latdiff_denoisers import DiTConfig, ResNetMLPConfig, UNetConfig

DIM, BATCH, STEPS, STD = 4, 256, 300, 0.5
DENOISERS = [
    DiTConfig(width=32, depth=1, heads=2, token_dim=2),
    ResNetMLPConfig(width=32, depth=2),
    UNetConfig(widths=(32, 16)),
]


def _draw(generator, batch=BATCH):
    """Normal data around the condition token, at a random time of the straight path."""
    condition, t = torch.randn(batch, 1, DIM, generator=generator), torch.rand(batch, generator=generator)
    mean = condition[:, 0]
    z = mean + STD * torch.randn(batch, DIM, generator=generator)
    alpha, sigma = (1 - t).unsqueeze(-1), t.unsqueeze(-1)
    z_t = alpha * z + sigma * torch.randn(batch, DIM, generator=generator)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return z, z_t, t, condition, mean + gain * (z_t - alpha * mean)


@pytest.mark.parametrize("config", DENOISERS, ids=lambda config: config.kind)
def test_it_comes_near_the_exact_posterior_mean(config):
    """The condition alone, without the noisy latent, leaves a relative error of 0.09."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    denoiser = config.build(dim=DIM, make_conditioner=lambda width: AddCondition(width=width, condition_width=DIM))
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-2, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        z, z_t, t, condition, _ = _draw(generator)
        loss = (denoiser(z_t, t, condition) - z).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    _, z_t, t, condition, exact = _draw(generator, 2000)
    with torch.no_grad():
        error = (denoiser.eval()(z_t, t, condition) - exact).square().mean() / exact.square().mean()
    assert error < 0.01
