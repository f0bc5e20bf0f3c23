"""The negative binomial mixture decoder and its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Sizes
from latdiff_core.testing import DecoderContract, nudge
from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, NegativeBinomialMixtureDecoderConfig
from latdiff_counts.likelihood import LOG_THETA_RANGE

SIZES = Sizes(genes=20, latent_dim=4)


class TestNegativeBinomialMixtureDecoder(DecoderContract):
    config = NegativeBinomialMixtureDecoderConfig(hidden=(16,), dispersion_rate=1.0)  # tails that draws can measure


def _distribution(decoder, cells: int = 8) -> NegativeBinomialMixture:
    z = torch.randn(cells, SIZES.latent_dim, generator=torch.Generator().manual_seed(0))
    return decoder(z, torch.full((cells,), 100.0), Covariates.average(cells, SIZES))


@pytest.fixture
def parameters():
    """log mu and tail logits (40, 9), log theta and log theta_tail (9,), in float64."""
    generator = torch.Generator().manual_seed(0)
    log_mu, logits = (k * torch.randn(40, 9, generator=generator, dtype=torch.float64) for k in (2, 3))
    log_theta = torch.logspace(-2, 6, 9, dtype=torch.float64).log()
    return log_mu, log_theta, log_theta - 2 * torch.rand(9, generator=generator), logits


def test_moments_are_those_of_the_mixture(parameters):
    """By the laws of total expectation and variance, from scipy's moments of the components."""
    log_mu, log_theta, log_theta_tail, logits = parameters
    ours, mu, pi = NegativeBinomialMixture(*parameters), log_mu.exp(), torch.sigmoid(logits)
    body, tail = (torch.from_numpy(stats.nbinom.var(t, t / (t + mu))) for t in (log_theta.exp(), log_theta_tail.exp()))
    torch.testing.assert_close(ours.mean, mu)
    torch.testing.assert_close(ours.variance, (1 - pi) * body + pi * tail, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("logit", "component"), [(-1e4, 1), (1e4, 2)])
def test_a_certain_component_is_the_negative_binomial(parameters, logit, component):
    """Without a tail, and with nothing else."""
    log_mu = parameters[0]
    x = torch.poisson(log_mu.exp(), generator=torch.Generator().manual_seed(0))
    mixture = NegativeBinomialMixture(*parameters[:3], torch.full((9,), logit, dtype=torch.float64))
    torch.testing.assert_close(mixture.log_prob(x), NegativeBinomial(log_mu, parameters[component]).log_prob(x))


def test_tails_are_heavier_than_those_of_an_nb_of_the_same_variance():
    """Sixty standard deviations up, by many nats; around the mean, hardly."""
    log_mu, log_theta = torch.tensor([[2.0]]), torch.tensor([2.0])
    mixture = NegativeBinomialMixture(log_mu, log_theta, log_theta - 3, torch.tensor([-3.0]))
    overdispersion = (mixture.variance - mixture.mean) / mixture.mean**2
    plain = NegativeBinomial(log_mu, -overdispersion.log())
    far = mixture.mean + 60 * mixture.variance.sqrt()
    assert mixture.log_prob(far) > plain.log_prob(far) + 10
    torch.testing.assert_close(mixture.log_prob(mixture.mean), plain.log_prob(mixture.mean), rtol=0.2, atol=0)


def test_training_starts_near_the_plain_negative_binomial(make_statistics):
    """About 3 % in the tail; the average log-probability of counts is within a hundredth of a nat."""
    statistics = make_statistics(SIZES.genes)
    decoder = NegativeBinomialMixtureDecoderConfig().build(sizes=SIZES, statistics=statistics)
    distribution = _distribution(decoder.eval())
    log_mu, log_theta, _, logits = distribution.parameters
    assert torch.sigmoid(logits).tolist() == pytest.approx([0.03] * SIZES.genes, abs=0.01)
    plain = NegativeBinomial(log_mu, log_theta)
    x = plain.sample((200,), torch.Generator().manual_seed(0))
    assert (plain.log_prob(x) - distribution.log_prob(x)).mean().abs() < 0.01


def test_the_tail_is_more_dispersed_than_the_body_and_inside_the_exact_range():
    decoder = nudge(NegativeBinomialMixtureDecoderConfig().build(sizes=SIZES, statistics=None), size=0.5)
    with torch.no_grad():
        decoder.gap.offset[0] = 100.0
    _, log_theta, log_theta_tail, _ = _distribution(decoder).parameters
    assert (log_theta_tail < log_theta).all()
    assert log_theta_tail[0] == LOG_THETA_RANGE[0]


def test_probability_and_gap_move_ten_times_as_far_as_a_weight():
    config = NegativeBinomialMixtureDecoderConfig(dispersion_rate=10.0, dropout=0.0)
    decoder = config.build(sizes=SIZES, statistics=None)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-3, weight_decay=0.0)
    before = [p.detach().clone() for p in (decoder.tail_logits(), decoder.gap(), decoder.network.logits.bias)]
    counts = CountBatch.from_dense(torch.randint(1, 30, (8, SIZES.genes)))
    (-_distribution(decoder).log_likelihood(counts).mean()).backward()
    optimiser.step()
    after = (decoder.tail_logits(), decoder.gap(), decoder.network.logits.bias)
    logits, gap, bias = ((b - a).abs().median().item() for a, b in zip(before, after, strict=True))
    assert [logits / bias, gap / bias] == pytest.approx([10.0, 10.0], rel=0.01)


def test_a_tail_is_found_in_counts_that_have_one():
    """One count in ten with theta 0.3 among counts of theta 10, of the same mean: found in 150 steps at 1e-2."""
    cells, genes = 1500, 10
    truth = [torch.full((genes,), value) for value in (2.3, -1.2, -2.2)]
    data = NegativeBinomialMixture(torch.full((cells, genes), 2.0), *truth)
    x = data.sample(generator=torch.Generator().manual_seed(0))
    sizes = Sizes(genes=genes, latent_dim=1)
    torch.manual_seed(0)
    decoder = NegativeBinomialMixtureDecoderConfig(hidden=(8,), dropout=0.0).build(sizes=sizes, statistics=None)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    library = torch.full((cells,), genes * data.mean[0, 0].item())
    for _ in range(150):
        distribution = decoder(torch.zeros(cells, 1), library, Covariates.average(cells, sizes))
        optimiser.zero_grad()
        (-distribution.log_prob(x).sum(-1).mean()).backward()
        optimiser.step()
    learned = [p.mean().item() for p in distribution.parameters[1:]]
    assert learned == pytest.approx([2.3, -1.2, -2.2], abs=0.5)
