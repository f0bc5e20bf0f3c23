"""The posterior that every encoder ends in."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Normal

LOG_VARIANCE_BOUND = 10.0


def bounded_posterior(mean: Tensor, log_variance: Tensor) -> Normal:
    """Normals over the latent, from the outputs of two linear heads, each (batch, latent).

    The log-variance is bounded smoothly to +-10, so that neither the KL nor its gradient can become infinite.
    """
    log_variance = LOG_VARIANCE_BOUND * (log_variance / LOG_VARIANCE_BOUND).tanh()
    return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)
