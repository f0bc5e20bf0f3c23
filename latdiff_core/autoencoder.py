"""Stage 1: the variational autoencoder over raw counts, from any encoder and any decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.errors import require_shape
from latdiff_core.interfaces import CountDistribution, Covariates, Decoder, Encoder


@dataclass(frozen=True)
class Elbo:
    """The parts of the evidence lower bound, in nats.

    Attributes
    ----------
    loss
        What is minimised, a scalar: nll + beta x the KL of each dimension or its free bits, averaged over cells.
    nll
        Negative log-likelihood, summed over genes, averaged over cells, a scalar.
    kl
        KL(q || standard normal) of each latent dimension, averaged over cells, (latent,).
    """

    loss: Tensor
    nll: Tensor
    kl: Tensor


class CountAutoencoder(nn.Module):
    """A variational autoencoder with a count likelihood (Kingma & Welling 2014, arXiv:1312.6114)."""

    def __init__(self, encoder: Encoder, decoder: Decoder, latent_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim

    def encode(self, counts: CountBatch, covariates: Covariates) -> Normal:
        """The posterior of each cell's latent, loc and scale (batch, latent).

        Raises
        ------
        ShapeError
            If the encoder gives latents of another number or size.
        """
        posterior: Normal = self.encoder(counts, covariates)
        require_shape("the encoder's latent", posterior.loc, (len(counts), self.latent_dim))
        return posterior

    def decode(self, z: Tensor, library: Tensor, covariates: Covariates) -> CountDistribution:
        """The distribution of counts for latents (batch, latent) and library sizes (batch,).

        Raises
        ------
        ShapeError
            If one of them has another shape.
        """
        require_shape("z", z, (len(z), self.latent_dim))
        require_shape("library", library, (len(z),))
        distribution: CountDistribution = self.decoder(z, library, covariates)
        return distribution

    def elbo(
        self, counts: CountBatch, covariates: Covariates, beta: float | Tensor = 1.0, free_bits: float = 0.0
    ) -> Elbo:
        """The bound at one posterior sample per cell (Eq. 3 of Kingma & Welling 2014).

        ``free_bits`` nats of each dimension's mean KL cost nothing (Kingma et al. 2016, arXiv:1606.04934, Eq. 15).
        """
        posterior = self.encode(counts, covariates)
        z = posterior.rsample()
        nll = -self.decode(z, counts.library, covariates).log_likelihood(counts).mean()
        loc, scale = at_least_float32(posterior.loc), at_least_float32(posterior.scale)
        kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).mean(0)  # (latent,)
        return Elbo(loss=nll + beta * kl.clamp(min=free_bits).sum(), nll=nll, kl=kl)


def at_least_float32(x: Tensor) -> Tensor:
    """Promote half precision to float32 and leave float32 and float64 alone."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
