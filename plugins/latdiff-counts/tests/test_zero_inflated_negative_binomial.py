"""The zero-inflated negative binomial decoder and its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Sizes
from latdiff_core.testing import DecoderContract
from latdiff_counts import (
    NegativeBinomial,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedNegativeBinomialDecoderConfig,
)


class TestZeroInflatedNegativeBinomialDecoder(DecoderContract):
    config = ZeroInflatedNegativeBinomialDecoderConfig(hidden=(16,))


@pytest.fixture
def parameters():
    """mu and zero-inflation logits (40, 9), theta (9,), in float64, with counts (40, 9) of which many are zero."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.exp(2 * torch.randn(40, 9, generator=generator, dtype=torch.float64))
    theta = torch.logspace(-2, 6, 9, dtype=torch.float64)
    logits = 3 * torch.randn(40, 9, generator=generator, dtype=torch.float64)
    return mu, theta, logits, torch.poisson(mu, generator=generator)


def test_moments_are_those_of_the_mixture(parameters):
    """By the laws of total expectation and variance over the gate."""
    mu, theta, logits, _ = parameters
    ours, pi = ZeroInflatedNegativeBinomial(mu.log(), theta.log(), logits), torch.sigmoid(logits)
    nb_variance = torch.from_numpy(stats.nbinom.var(theta, theta / (theta + mu)))
    torch.testing.assert_close(ours.mean, (1 - pi) * mu)
    torch.testing.assert_close(ours.variance, (1 - pi) * nb_variance + pi * (1 - pi) * mu**2, rtol=1e-6, atol=0)


def test_extreme_parameters_give_finite_values_and_gradients():
    """Masks that multiply give nan here (0 x nan), and an epsilon inside the log gives -18.4 without a gradient."""
    axes = (
        torch.tensor([0.0, 1.0, 10_000.0]),
        torch.tensor([-30.0, 0.0, 10.0]),
        torch.tensor([-12.0, 0.0, 24.0]),
        torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]),
    )
    x, *parameters = (axis.flatten().unsqueeze(0) for axis in torch.meshgrid(*axes, indexing="ij"))
    log_mu, log_theta, logits = (p.clone().requires_grad_() for p in parameters)
    distribution = ZeroInflatedNegativeBinomial(log_mu, log_theta, logits)
    dense = distribution.log_prob(x)
    sparse = distribution.log_likelihood(CountBatch.from_dense(x))
    (dense.sum() + sparse.sum()).backward()
    assert dense.isfinite().all()
    assert dense.min() < -1e4
    for parameter in (log_mu, log_theta, logits):
        assert parameter.grad.isfinite().all()


def test_the_gate_has_a_gradient_however_unlikely_the_count():
    """A gate that is certain of a zero must be told otherwise by a count."""
    logits = torch.full((1, 1), 50.0, requires_grad=True)
    log_prob = ZeroInflatedNegativeBinomial(torch.zeros(1, 1), torch.zeros(1), logits).log_prob(torch.ones(1, 1))
    log_prob.sum().backward()
    assert log_prob.item() == pytest.approx(-50.0 + stats.nbinom.logpmf(1, 1, 0.5), abs=1e-4)
    assert logits.grad.item() == pytest.approx(-1.0)


def test_a_closed_gate_leaves_the_negative_binomial(parameters):
    mu, theta, _, x = parameters
    gated = ZeroInflatedNegativeBinomial(mu.log(), theta.log(), torch.full((9,), -1e4, dtype=torch.float64))
    torch.testing.assert_close(gated.log_prob(x), NegativeBinomial(mu.log(), theta.log()).log_prob(x))


def test_training_starts_near_the_plain_negative_binomial():
    """About 5 % zero inflation at first, in every cell and gene."""
    sizes = Sizes(genes=20, latent_dim=4)
    decoder = ZeroInflatedNegativeBinomialDecoderConfig().build(sizes=sizes, statistics=None)
    distribution = decoder(torch.randn(8, 4), torch.full((8,), 100.0), Covariates.average(8, sizes))
    zi_logits = distribution.parameters[2]
    assert torch.sigmoid(zi_logits).flatten().tolist() == pytest.approx([0.05] * 160, abs=0.01)


def test_the_means_of_a_cell_add_up_to_its_library():
    """Also where most counts are zeros of the gate: a cell that is asked to have so many counts has them."""
    sizes, library = Sizes(genes=20, latent_dim=4), torch.tensor([1.0, 100.0, 1e6])
    decoder = ZeroInflatedNegativeBinomialDecoderConfig().build(sizes=sizes, statistics=None)
    torch.nn.init.normal_(decoder.zi_logits.bias, std=3.0)
    distribution = decoder(torch.randn(3, 4), library, Covariates.average(3, sizes))
    assert torch.sigmoid(distribution.parameters[2]).max() > 0.9
    torch.testing.assert_close(distribution.mean.sum(-1), library)
