"""The negative binomial mixture decoder and its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, GeneStatistics, Sizes
from latdiff_core.testing import DecoderContract, nudge
from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, NegativeBinomialMixtureDecoderConfig
from latdiff_counts.negative_binomial_mixture import LOG_BURST_RANGE

SIZES = Sizes(genes=20, latent_dim=4)


class TestNegativeBinomialMixtureDecoder(DecoderContract):
    config = NegativeBinomialMixtureDecoderConfig(hidden=(16,), dispersion_rate=1.0)  # tails that draws can measure


def _distribution(decoder, cells: int = 8) -> NegativeBinomialMixture:
    z = torch.randn(cells, SIZES.latent_dim, generator=torch.Generator().manual_seed(0))
    return decoder(z, torch.full((cells,), 100.0), Covariates.average(cells, SIZES))


@pytest.fixture
def parameters():
    """log mu and tail logits (40, 9), log theta and log burst (9,), in float64."""
    generator = torch.Generator().manual_seed(0)
    log_mu, logits = (k * torch.randn(40, 9, generator=generator, dtype=torch.float64) for k in (2, 3))
    log_theta = torch.logspace(-2, 6, 9, dtype=torch.float64).log()
    return log_mu, log_theta, 4 * torch.rand(9, generator=generator, dtype=torch.float64) - 1, logits


def test_moments_are_those_of_the_mixture(parameters):
    """By the laws of total expectation and variance, from scipy's moments of the components."""
    log_mu, log_theta, log_burst, logits = parameters
    ours, mu, pi = NegativeBinomialMixture(*parameters), log_mu.exp(), torch.sigmoid(logits)
    thetas = log_theta.exp(), (log_mu - log_burst).exp()
    body, tail = (torch.from_numpy(stats.nbinom.var(t, t / (t + mu))) for t in thetas)
    torch.testing.assert_close(ours.mean, mu)
    torch.testing.assert_close(ours.variance, (1 - pi) * body + pi * tail, rtol=1e-6, atol=0)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_a_certain_component_is_the_negative_binomial(parameters, logit):
    """Without a tail, and with nothing else."""
    log_mu, log_theta, log_burst, _ = parameters
    x = torch.poisson(log_mu.exp(), generator=torch.Generator().manual_seed(0))
    mixture = NegativeBinomialMixture(*parameters[:3], torch.full((9,), logit, dtype=torch.float64))
    plain = NegativeBinomial(log_mu, log_theta if logit < 0 else log_mu - log_burst)
    torch.testing.assert_close(mixture.log_prob(x), plain.log_prob(x))


def test_tails_are_heavier_than_those_of_an_nb_of_the_same_variance():
    """Sixty standard deviations up, by many nats; around the mean, hardly."""
    log_mu, log_theta = torch.tensor([[2.0]]), torch.tensor([2.0])
    mixture = NegativeBinomialMixture(log_mu, log_theta, torch.tensor([3.0]), torch.tensor([-3.0]))
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


def test_bursts_stay_where_their_arithmetic_is_exact():
    decoder = nudge(NegativeBinomialMixtureDecoderConfig().build(sizes=SIZES, statistics=None), size=0.5)
    with torch.no_grad():
        decoder.log_burst.offset[:2] = torch.tensor([-100.0, 100.0])
    assert _distribution(decoder).parameters[2][:2].tolist() == list(LOG_BURST_RANGE)


def test_the_variance_of_the_tail_grows_with_the_mean():
    """Twenty times the mean, twenty times the tail's variance, where that of a fixed theta grows nearly 400-fold."""
    log_mu, tail_alone = torch.tensor([[0.0], [20.0]]), torch.tensor([1e4])
    log_mu[1].log_()
    tail = NegativeBinomialMixture(log_mu, torch.tensor([0.0]), torch.tensor([3.0]), tail_alone)
    assert tail.variance[:, 0].tolist() == pytest.approx([1 + np.exp(3.0), 20 * (1 + np.exp(3.0))], rel=1e-5)
    draws = tail.sample((40_000,), torch.Generator().manual_seed(0)).var(0)
    torch.testing.assert_close(draws, tail.variance, rtol=0.08, atol=0)


def test_genes_that_are_never_counted_have_finite_tails():
    """A mean of 1e-35 and bursts of 160,000."""
    log_mu, log_burst = torch.full((1, 1), -80.0, requires_grad=True), torch.full((1,), 12.0, requires_grad=True)
    mixture = NegativeBinomialMixture(log_mu, torch.zeros(1), log_burst, torch.zeros(1))
    log_prob = mixture.log_prob(torch.tensor([[7.0]]))
    log_prob.sum().backward()
    assert log_prob.item() < -40
    for value in (log_prob, log_mu.grad, log_burst.grad):
        assert value.isfinite().all()


def test_genes_that_few_training_cells_have_get_no_giant_counts():
    """Of ten genes of every cell, ten of one, and ten of none, whose zeros alone are likelier the larger the bursts."""
    cells, genes, seldom, steps = 300, 30, slice(10, 30), 800
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((cells, genes), 2.0), generator=generator)
    counts[:, seldom] = 0
    counts[torch.arange(10) * 7, torch.arange(10, 20)] = 1
    fraction = (counts.sum(0) + 0.5) / (counts.sum(0) + 0.5).sum()
    sizes, statistics = Sizes(genes=genes, latent_dim=1), GeneStatistics(fraction, torch.ones(genes))
    torch.manual_seed(0)
    config = NegativeBinomialMixtureDecoderConfig(hidden=(8,), weight_prior=0.4, dropout=0.0, dispersion_by_depth=True)
    decoder = config.build(sizes=sizes, statistics=statistics)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=5e-3)
    told = torch.zeros(cells, 1), counts.sum(-1), Covariates.average(cells, sizes)
    for _ in range(steps):
        optimiser.zero_grad()
        likelihood = decoder(*told).log_prob(counts).sum(-1).mean()
        (-(likelihood + decoder.log_prior() / cells) / genes).backward()
        optimiser.step()
    with torch.no_grad():
        drawn = decoder(*told).sample((300,), generator)
    assert drawn[..., seldom].max() < 50
    assert drawn[..., seldom].sum((1, 2)).mean() == pytest.approx(10, rel=0.2)


def test_probability_and_burst_move_ten_times_as_far_as_a_weight():
    config = NegativeBinomialMixtureDecoderConfig(dispersion_rate=10.0, dropout=0.0)
    decoder = config.build(sizes=SIZES, statistics=None)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-3, weight_decay=0.0)
    before = [p.detach().clone() for p in (decoder.tail_logits(), decoder.log_burst(), decoder.network.logits.bias)]
    counts = CountBatch.from_dense(torch.randint(1, 30, (8, SIZES.genes)))
    (-_distribution(decoder).log_likelihood(counts).mean()).backward()
    optimiser.step()
    after = (decoder.tail_logits(), decoder.log_burst(), decoder.network.logits.bias)
    logits, burst, bias = ((b - a).abs().median().item() for a, b in zip(before, after, strict=True))
    assert [logits / bias, burst / bias] == pytest.approx([10.0, 10.0], rel=0.01)


def test_a_tail_is_found_in_counts_that_have_one():
    """One count in ten with bursts of 30 among counts of theta 10, of the same mean: found in 150 steps at 1e-2."""
    cells, genes = 1500, 10
    truth = [torch.full((genes,), value) for value in (2.3, 3.4, -2.2)]
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
    assert learned == pytest.approx([2.3, 3.4, -2.2], abs=0.5)
