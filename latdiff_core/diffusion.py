"""Stage 2: a conditional diffusion over standardised latents, from any denoiser and any schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latdiff_core.conditions import ConditionEmbedding, Conditions
from latdiff_core.device import moved
from latdiff_core.errors import require_shape
from latdiff_core.interfaces import BranchedDenoise, Denoiser, Guidance, Sampler, Schedule
from latdiff_core.prediction import Prediction, target, to_clean, total_std


@dataclass(frozen=True)
class NoiseDraw:
    """Everything random in one evaluation of the loss.

    Attributes
    ----------
    t
        Diffusion times, (batch,).
    eps
        Noise, (batch, dim).
    keep
        Which condition attributes the network sees, (batch, attributes), bool.
    """

    t: Tensor
    eps: Tensor
    keep: Tensor

    def to(self, device: torch.device | str) -> NoiseDraw:
        """Move to a device."""
        return NoiseDraw(moved(self.t, device), moved(self.eps, device), moved(self.keep, device))


class Standardiser(nn.Module):
    """Per-dimension affine map to zero mean and unit variance, stored with the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim) to standardised (batch, dim)."""
        return (x - self.mean) / self.std

    def inverse(self, x: Tensor) -> Tensor:
        """Standardised (batch, dim) back to (batch, dim)."""
        return x * self.std + self.mean


class Diffusion(nn.Module):
    """The diffused vector's model: the latent and, when it is generated jointly, the log library size.

    Attributes
    ----------
    standardiser
        Maps what is diffused to unit variance per dimension.
    """

    def __init__(
        self,
        *,
        dim: int,
        denoiser: Denoiser,
        embedding: ConditionEmbedding,
        schedule: Schedule,
        prediction: Prediction,
        guidance: Guidance,
        sampler: Sampler,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.denoiser = denoiser
        self.embedding = embedding
        self.standardiser = Standardiser(dim)
        self.schedule = schedule
        self.prediction = prediction
        self.guidance = guidance
        self.sampler = sampler

    def draw(self, conditions: Conditions, generator: torch.Generator | None = None) -> NoiseDraw:
        """Draw times, noise and the keep mask for one batch, on the CPU."""
        n = len(conditions)
        return NoiseDraw(
            t=self.schedule.sample_times(n, generator),
            eps=torch.randn(n, self.dim, generator=generator),
            keep=self.guidance.keep_mask(n, generator),
        )

    def loss(self, x: Tensor, conditions: Conditions, draw: NoiseDraw) -> Tensor:
        """Weighted squared error of the prediction for standardised vectors (batch, dim), per cell (batch,)."""
        require_shape("x", x, (len(conditions), self.dim))
        alpha, sigma = self._alpha_sigma(draw.t, x)
        eps = draw.eps.to(x)
        x_t = alpha * x + sigma * eps
        output = self._predict(x_t, draw.t, alpha, sigma, self.embedding(conditions, draw.keep))
        error = (output - target(self.prediction, x, eps, alpha, sigma)).square().mean(-1)
        weighted: Tensor = self.schedule.loss_weight(draw.t).to(error) * error
        return weighted

    def branched_denoise(self, conditions: Conditions) -> BranchedDenoise:
        """The clean latents for these cells' conditions, all branches in one call of the network."""

        def denoise(z_t: Tensor, t: Tensor, keep: Tensor) -> Tensor:
            branches, cells = len(keep), len(z_t)
            mask = moved(keep, z_t.device).repeat_interleave(cells, dim=0)  # (branches * batch, attributes)
            condition = self.embedding(conditions.repeat(branches), mask)
            stacked, times = z_t.repeat(branches, 1), t.repeat(branches)
            alpha, sigma = self._alpha_sigma(times, z_t)
            output = self._predict(stacked, times, alpha, sigma, condition)
            return to_clean(self.prediction, output, stacked, alpha, sigma).view(branches, cells, -1)

        return denoise

    @torch.no_grad()
    def sample(self, conditions: Conditions, generator: torch.Generator | None = None) -> Tensor:
        """Generate one unstandardised vector per cell, (batch, dim), with dropout off."""
        training = self.training
        self.eval()
        try:
            mean = self.standardiser.mean
            noise = moved(torch.randn(len(conditions), self.dim, generator=generator), mean.device).to(mean.dtype)
            on_device = conditions.to(noise.device)
            denoise = self.guidance.guided(self.branched_denoise(on_device))
            x = self.sampler.sample(denoise, noise, self.schedule, generator)
            return self.standardiser.inverse(x)
        finally:
            self.train(training)

    def _predict(self, z_t: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """The network's output; whatever the path, it sees latents of unit variance."""
        # Times never in half precision: there 0.999 is 1, and the network would see another time than alpha and sigma.
        times = t.to(z_t.device, torch.promote_types(z_t.dtype, torch.float32))
        output: Tensor = self.denoiser(z_t / total_std(alpha, sigma), times, condition)
        return output

    def _alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.schedule.alpha_sigma(t.double())
        return alpha.to(like).unsqueeze(-1), sigma.to(like).unsqueeze(-1)  # (batch, 1)
