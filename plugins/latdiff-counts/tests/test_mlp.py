"""The MLP encoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Sizes
from latdiff_core.testing import EncoderContract, nudge
from latdiff_counts import MLPEncoderConfig


class TestMLPEncoder(EncoderContract):
    config = MLPEncoderConfig(hidden=(32, 16))


def _encoder(genes: int):
    torch.manual_seed(0)
    return nudge(MLPEncoderConfig(hidden=(16,)).build(sizes=Sizes(genes=genes, latent_dim=4), statistics=None))


def _posterior(encoder, counts: Tensor) -> Normal:
    covariates = Covariates(torch.zeros(len(counts), 0), torch.zeros(len(counts), 0))
    return encoder(CountBatch.from_dense(counts), covariates)


def test_sequencing_deeper_does_not_move_the_posterior():
    """Counts enter per 10,000: the same profile at ten times the depth is the same input."""
    counts = torch.poisson(torch.rand(6, 30, generator=torch.Generator().manual_seed(0)) * 20)
    encoder = _encoder(30)
    shallow, deep = (_posterior(encoder, c).loc for c in (counts, 10 * counts))
    torch.testing.assert_close(shallow, deep, rtol=1e-4, atol=1e-5)


def test_no_gene_carries_most_of_the_variance_of_the_first_layer():
    """With raw counts ten genes of a lognormal profile carry over 80 % of the variance; with log1p they cannot."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.exp(2.5 * torch.randn(300, generator=generator))
    counts = torch.poisson(mean * torch.exp(0.3 * torch.randn(200, 1, generator=generator)), generator=generator)
    seen = []
    encoder = MLPEncoderConfig(hidden=(300,)).build(sizes=Sizes(genes=300, latent_dim=4), statistics=None)
    with torch.no_grad():
        encoder.first.genes.copy_(torch.eye(300))  # the first layer then gives what it is given
    encoder.first.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    _posterior(encoder, counts)

    def share_of_ten(x):
        variance = x.var(0).sort(descending=True).values
        return (variance[:10].sum() / variance.sum()).item()

    assert share_of_ten(counts) > 0.8
    assert share_of_ten(seen[0]) < 0.2


def test_the_log_variance_is_bounded_to_ten_on_both_sides():
    encoder = _encoder(5)
    for bias, bound in ((1e4, 10.0), (-1e4, -10.0)):
        with torch.no_grad():
            encoder.log_variance.bias.fill_(bias)
        torch.testing.assert_close(2 * _posterior(encoder, torch.ones(1, 5)).scale.log(), torch.full((1, 4), bound))
