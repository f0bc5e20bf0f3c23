"""What count decoders share: softmax x library."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latdiff_core.interfaces import Covariates, GeneStatistics, Sizes
from latdiff_counts.count_network import CountNetwork


def _network(genes: int, statistics: GeneStatistics | None = None) -> CountNetwork:
    torch.manual_seed(0)
    sizes = Sizes(genes=genes, latent_dim=4, nuisance=2)
    return CountNetwork(sizes=sizes, hidden=(16,), dropout=0.0, statistics=statistics)


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
