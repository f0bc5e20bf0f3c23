"""What NB-family decoders share: softmax x library, and the per-gene dispersion."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import GeneStatistics
from latdiff_counts import NegativeBinomialDecoderConfig, ZeroInflatedNegativeBinomialDecoderConfig
from latdiff_counts.count_network import CountNetwork, GeneDispersion
from latdiff_counts.likelihood import LOG_THETA_RANGE

CONFIGS = [NegativeBinomialDecoderConfig(), ZeroInflatedNegativeBinomialDecoderConfig()]


def _statistics(genes: int) -> GeneStatistics:
    generator = torch.Generator().manual_seed(0)
    fraction = torch.exp(2 * torch.randn(genes, generator=generator))
    theta = torch.exp(torch.randn(genes, generator=generator))
    return GeneStatistics(fraction=fraction / fraction.sum(), theta=theta)


def _network(genes: int, statistics: GeneStatistics | None = None) -> CountNetwork:
    torch.manual_seed(0)
    return CountNetwork(genes=genes, latent_dim=4, hidden=(16,), dropout=0.0, statistics=statistics)


def test_expected_counts_sum_to_the_library():
    """exp(logit) x library starts at ``genes`` times the library."""
    library = torch.tensor([500.0, 20_000.0])
    log_mu, _ = _network(20_000)(torch.randn(2, 4), library)
    torch.testing.assert_close(log_mu.exp().sum(-1), library)


def test_training_starts_at_the_mean_profile_of_the_data():
    """Every gene begins within a factor of e of library x its share of the counts, most within a half of that."""
    statistics, library = _statistics(2000), torch.full((64,), 5000.0)
    log_mu, _ = _network(2000, statistics)(torch.randn(64, 4), library)
    error = (log_mu - (library.unsqueeze(-1) * statistics.fraction).log()).abs()
    assert error.mean() < 0.5
    assert error.mean(0).max() < 1.0


def test_logits_of_two_hundred_do_not_overflow():
    """exp overflows float32 at 88.7."""
    network = _network(10)
    with torch.no_grad():
        network.logits.bias[0], network.logits.bias[1] = 200.0, -200.0
    log_mu, _ = network(torch.randn(2, 4), torch.full((2,), 1000.0))
    log_mu.sum().backward()
    assert log_mu.isfinite().all()
    assert log_mu.exp().sum(-1).tolist() == pytest.approx([1000.0, 1000.0], rel=1e-4)
    assert network.logits.weight.grad.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_dispersion_is_per_gene_and_starts_at_the_moments_of_the_data(config):
    statistics = _statistics(50)
    decoder = config.build(genes=50, latent_dim=4, statistics=statistics)
    torch.testing.assert_close(decoder.dispersion().exp(), statistics.theta)
    assert [p.shape for name, p in decoder.named_parameters() if name.startswith("dispersion")] == [(50,)]


def test_a_saved_dispersion_is_loaded_without_the_data():
    """The start belongs to the weights: a decoder built without statistics takes it from them."""
    saved = GeneDispersion(genes=50, rate=10.0, statistics=_statistics(50))
    loaded = GeneDispersion(genes=50, rate=10.0, statistics=None)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(), saved())


def test_a_step_of_adamw_moves_log_theta_ten_times_as_far_as_a_weight():
    decoder = NegativeBinomialDecoderConfig(dispersion_rate=10.0, dropout=0.0).build(
        genes=20, latent_dim=4, statistics=_statistics(20)
    )
    counts = CountBatch.from_dense(torch.randint(1, 30, (8, 20)))
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-3, weight_decay=0.0)
    log_theta, bias = decoder.dispersion().detach().clone(), decoder.network.logits.bias.detach().clone()
    (-decoder(torch.randn(8, 4), counts.library).log_likelihood(counts).mean()).backward()
    optimiser.step()
    moved = (decoder.dispersion() - log_theta).abs().median() / (decoder.network.logits.bias - bias).abs().median()
    assert moved.item() == pytest.approx(10.0, rel=0.01)


def test_weight_decay_pulls_theta_to_the_moments_and_not_to_one():
    statistics = _statistics(20)
    dispersion = GeneDispersion(genes=20, rate=10.0, statistics=statistics)
    with torch.no_grad():
        dispersion.offset += 0.2
    optimiser = torch.optim.AdamW(dispersion.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(300):
        dispersion.offset.grad = torch.zeros(20)
        optimiser.step()
    torch.testing.assert_close(dispersion().exp(), statistics.theta, rtol=1e-3, atol=1e-3)


def test_theta_is_learned_at_the_networks_learning_rate():
    """From moments that are wrong by a factor of five, 300 steps at 1e-3 recover theta; at rate 1 they could not."""
    generator = torch.Generator().manual_seed(0)
    genes, truth = 30, 5.0
    library = torch.full((2000,), 600.0)
    profile = torch.full((genes,), 1 / genes)
    gamma = torch._standard_gamma(torch.full((2000, genes), truth), generator=generator)
    counts = torch.poisson(gamma / truth * 600 / genes, generator=generator)
    statistics = GeneStatistics(fraction=profile, theta=torch.ones(genes))
    torch.manual_seed(0)
    decoder = NegativeBinomialDecoderConfig(hidden=(16,), dropout=0.0).build(
        genes=genes, latent_dim=2, statistics=statistics
    )
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-3, weight_decay=0.01)
    for _ in range(300):
        loss = -decoder(torch.zeros(2000, 2), library).log_prob(counts).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert decoder.dispersion().exp().mean().item() == pytest.approx(truth, rel=0.1)


def test_theta_cannot_leave_the_range_in_which_the_likelihood_is_exact():
    dispersion = GeneDispersion(genes=2, rate=10.0, statistics=None)
    with torch.no_grad():
        dispersion.offset.copy_(torch.tensor([-100.0, 100.0]))
    assert dispersion().tolist() == list(LOG_THETA_RANGE)
