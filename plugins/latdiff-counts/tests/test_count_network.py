"""What count decoders share: softmax x library."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latdiff_core.interfaces import Covariates, GeneStatistics, Sizes
from latdiff_core.testing.toys import nudge
from latdiff_counts import (
    NegativeBinomialDecoderConfig,
    NegativeBinomialMixtureDecoderConfig,
    PoissonDecoderConfig,
    ZeroInflatedNegativeBinomialDecoderConfig,
)
from latdiff_counts.count_network import CountNetwork


def _network(genes: int, statistics: GeneStatistics | None = None, weight_prior: float | None = None) -> CountNetwork:
    torch.manual_seed(0)
    sizes = Sizes(genes=genes, latent_dim=4, nuisance=2)
    return CountNetwork(
        sizes=sizes,
        hidden=(16,),
        dropout=0.0,
        conditional=False,
        condition_dropout=0.0,
        weight_prior=weight_prior,
        statistics=statistics,
    )


def _log_mu(network: CountNetwork, library: Tensor) -> Tensor:
    cells = len(library)
    covariates = Covariates(torch.randn(cells, 2), torch.zeros(cells, 0))
    log_mu, _ = network(torch.randn(cells, 4), library, covariates)
    return log_mu


def test_expected_counts_sum_to_the_library():
    """exp(logit) x library starts at ``genes`` times the library."""
    library = torch.tensor([500.0, 20_000.0])
    torch.testing.assert_close(_log_mu(_network(20_000), library).exp().sum(-1), library)


def test_training_starts_at_the_mean_profile_of_the_data(make_statistics):
    """Every gene begins within a factor of e of library x its share of the counts, most within a half of that."""
    statistics, library = make_statistics(2000), torch.full((64,), 5000.0)
    log_mu = _log_mu(_network(2000, statistics), library)
    error = (log_mu - (library.unsqueeze(-1) * statistics.fraction).log()).abs()
    assert error.mean() < 0.5
    assert error.mean(0).max() < 1.0


def test_logits_of_two_hundred_do_not_overflow():
    """exp overflows float32 at 88.7."""
    network = _network(10)
    with torch.no_grad():
        network.logits.bias[0], network.logits.bias[1] = 200.0, -200.0
    log_mu = _log_mu(network, torch.full((2,), 1000.0))
    log_mu.sum().backward()
    assert log_mu.isfinite().all()
    assert log_mu.exp().sum(-1).tolist() == pytest.approx([1000.0, 1000.0], rel=1e-4)
    assert network.logits.weight.grad.isfinite().all()


def test_the_prior_is_the_normal_density_of_the_last_weights():
    network = nudge(_network(7, weight_prior=0.2))
    prior = torch.distributions.Normal(0.0, 0.2 / 16**0.5)
    density, at_zero = (prior.log_prob(w).sum() for w in (network.logits.weight, torch.zeros(7, 16)))
    torch.testing.assert_close(network.log_prior(), density - at_zero)
    assert nudge(_network(7)).log_prior() == 0


@pytest.mark.parametrize(
    ("config", "spreads"),
    [
        (NegativeBinomialDecoderConfig(hidden=(16,), weight_prior=0.2), [1.0]),
        (NegativeBinomialDecoderConfig(hidden=(16,), weight_prior=0.2, dispersion="cell"), [1.0, 1.0]),
        (NegativeBinomialMixtureDecoderConfig(hidden=(16,), weight_prior=0.2, dispersion="cell"), [1.0, 1.0]),
        (ZeroInflatedNegativeBinomialDecoderConfig(hidden=(16,), weight_prior=0.2), [1.0, 2.5]),
    ],
)
def test_the_prior_holds_for_all_weights_to_the_genes(config, spreads):
    """Without one the weights of the zero inflation fitted noise after a sixth of the training."""
    decoder = nudge(config.build(sizes=Sizes(genes=7, latent_dim=4), statistics=None))
    decoder.log_prior().backward()
    matrices = [w for w in decoder.parameters() if w.shape == (7, 16)]
    assert len(matrices) == len(spreads)
    for weights, spread in zip(matrices, spreads, strict=True):
        torch.testing.assert_close(weights.grad, -weights * 16 / (0.2 * spread) ** 2)


def test_with_a_prior_every_cell_begins_at_the_mean_profile_exactly(make_statistics):
    statistics, library = make_statistics(50), torch.full((3,), 1000.0)
    network = _network(50, statistics, weight_prior=0.4)
    torch.testing.assert_close(_log_mu(network, library).exp(), (1000 * statistics.fraction).expand(3, -1))


def test_a_gene_that_is_seldom_counted_keeps_its_profile_and_a_frequent_one_learns():
    """The same fourfold change between two groups of 30 cells, in a gene of 0.02 and in one of 20 counts per cell."""
    torch.manual_seed(0)
    z = torch.tensor([[2.0], [-2.0]]).repeat_interleave(30, 0)
    frequent = torch.where(z > 0, 32.0, 8.0)
    counts = torch.cat([torch.full_like(z, 1000.0), torch.poisson(frequent), 0 * z], -1)
    counts[0, 2] = 1.0
    decoder = PoissonDecoderConfig(hidden=(16,), dropout=0.0, weight_prior=0.4).build(
        sizes=Sizes(genes=3, latent_dim=1), statistics=None
    )
    optimiser, covariates = torch.optim.Adam(decoder.parameters(), 1e-2), Covariates(z[:, :0], z[:, :0])
    for _ in range(300):
        loss = -decoder(z, counts.sum(-1), covariates).log_prob(counts).sum(-1).mean() - decoder.log_prior() / len(z)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    mean = decoder(z, torch.full((60,), 1020.0), covariates).mean[[0, -1]]
    assert mean[0, 1] / mean[1, 1] > 3
    assert mean[0, 2] / mean[1, 2] < 1.5


@pytest.mark.parametrize("conditional", [True, False])
def test_the_condition_reaches_the_means_only_where_it_is_told(conditional):
    config = PoissonDecoderConfig(hidden=(8,), conditional=conditional)
    decoder = nudge(config.build(sizes=Sizes(genes=5, latent_dim=2, condition=3), statistics=None))
    z, library, condition = torch.randn(2, 2), torch.full((2,), 100.0), torch.eye(3)[:2]
    first, second = (decoder(z, library, Covariates(z[:, :0], c)).mean for c in (condition, 0 * condition))
    assert torch.equal(first, second) != conditional


def test_the_condition_is_hidden_from_a_share_of_the_training_cells_and_from_no_others():
    sizes, cells = Sizes(genes=5, latent_dim=4, condition=3), 10_000
    config = PoissonDecoderConfig(dropout=0.0, conditional=True, condition_dropout=0.3)
    network = nudge(config.build_network(sizes, None))
    z, library, condition = torch.randn(1, 4), torch.full((cells,), 100.0), torch.tensor([[0.5, -1.0, 2.0]])

    def log_mu(told: Tensor) -> Tensor:
        return network(z.expand(cells, 4), library, Covariates(torch.zeros(cells, 0), told.expand(cells, 3)))[0]

    told, unknown = log_mu(condition), log_mu(torch.zeros(1, 3))
    network.train()
    trained = log_mu(condition)
    is_hidden = (trained - unknown).abs().amax(1) < 1e-5
    assert is_hidden.float().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(trained[~is_hidden], told[~is_hidden])
    assert (told - unknown).abs().amax(1).min() > 1e-3
