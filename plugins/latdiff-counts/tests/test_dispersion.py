"""The inverse dispersion of NB-family decoders: per gene, per condition, per cell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Covariates, GeneStatistics, Sizes
from latdiff_core.testing import nudge
from latdiff_counts import (
    NegativeBinomialDecoderConfig,
    NegativeBinomialMixtureDecoderConfig,
    ZeroInflatedNegativeBinomialDecoderConfig,
)
from latdiff_counts.dispersion import LOG_THETA_LIMITS, Dispersion

CONFIGS = [
    NegativeBinomialDecoderConfig(),
    ZeroInflatedNegativeBinomialDecoderConfig(),
    NegativeBinomialMixtureDecoderConfig(),
]
KINDS = ("gene", "condition", "cell")
WIDTH = 16
"""Of the decoder's last hidden layer."""


def _dispersion(of: str, genes: int, statistics: GeneStatistics | None = None) -> Dispersion:
    sizes = Sizes(genes=genes, latent_dim=4, condition=2)
    return Dispersion(of=of, sizes=sizes, hidden=WIDTH, rate=10.0, depth=False, statistics=statistics)


def _conditions(condition: Tensor) -> Covariates:
    """Covariates of cells with this coding of the condition, (batch, condition), without nuisance."""
    return Covariates(torch.zeros(len(condition), 0), condition)


def _log_theta(dispersion: Dispersion, cells: int = 3) -> Tensor:
    """log theta of cells that differ in everything."""
    generator = torch.Generator().manual_seed(0)
    hidden, condition = (torch.randn(cells, width, generator=generator) for width in (WIDTH, 2))
    return dispersion(hidden, torch.full((cells,), 100.0), _conditions(condition))


def _nb_counts(theta: Tensor, mean: float) -> Tensor:
    """NB counts of one mean, in the shape of ``theta``, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch._standard_gamma(theta, generator=generator) / theta * mean, generator=generator)


def _train(decoder, steps: int, learning_rate: float, counts: Tensor, z: Tensor, covariates: Covariates) -> None:
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=learning_rate, weight_decay=0.01)
    library = torch.full((len(counts),), 600.0)
    for _ in range(steps):
        loss = -decoder(z, library, covariates).log_prob(counts).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_dispersion_is_per_gene_and_starts_at_the_moments_of_the_data(config, make_statistics):
    statistics = make_statistics(50)
    decoder = config.build(sizes=Sizes(genes=50, latent_dim=4), statistics=statistics)
    torch.testing.assert_close(_log_theta(decoder.dispersion).exp(), statistics.theta)
    assert [p.shape for name, p in decoder.named_parameters() if name.startswith("dispersion")] == [(50,)]


@pytest.mark.parametrize("of", KINDS)
def test_whatever_it_is_of_it_starts_at_the_moments_of_the_data(of, make_statistics):
    statistics = make_statistics(50)
    theta = _log_theta(_dispersion(of, 50, statistics)).exp()
    torch.testing.assert_close(theta, statistics.theta.expand_as(theta))


@pytest.mark.parametrize("of", KINDS)
def test_a_saved_dispersion_is_loaded_without_the_data(of, make_statistics):
    """The start belongs to the weights: a decoder built without statistics takes it from them."""
    saved, loaded = nudge(_dispersion(of, 50, make_statistics(50))), _dispersion(of, 50)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(_log_theta(loaded), _log_theta(saved))


def test_a_step_of_adamw_moves_log_theta_ten_times_as_far_as_a_weight(make_statistics):
    config = NegativeBinomialDecoderConfig(dispersion_rate=10.0, dropout=0.0)
    decoder = config.build(sizes=Sizes(genes=20, latent_dim=4), statistics=make_statistics(20))
    counts = CountBatch.from_dense(torch.randint(1, 30, (8, 20)))
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-3, weight_decay=0.0)
    log_theta = _log_theta(decoder.dispersion).detach().clone()
    bias = decoder.network.logits.bias.detach().clone()
    distribution = decoder(torch.randn(8, 4), counts.library, _conditions(torch.zeros(8, 0)))
    (-distribution.log_likelihood(counts).mean()).backward()
    optimiser.step()
    moved = _log_theta(decoder.dispersion) - log_theta
    ratio = moved.abs().median() / (decoder.network.logits.bias - bias).abs().median()
    assert ratio.item() == pytest.approx(10.0, rel=0.01)


def test_weight_decay_pulls_theta_to_the_moments_and_not_to_one(make_statistics):
    statistics = make_statistics(20)
    dispersion = _dispersion("gene", 20, statistics)
    offset = dispersion.by_gene.offset
    with torch.no_grad():
        offset += 0.2
    optimiser = torch.optim.AdamW(dispersion.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(300):
        offset.grad = torch.zeros(20)
        optimiser.step()
    torch.testing.assert_close(_log_theta(dispersion).exp(), statistics.theta, rtol=1e-3, atol=1e-3)


def test_theta_is_learned_at_the_networks_learning_rate():
    """From moments that are wrong by a factor of five, 300 steps at 1e-3 recover theta; at rate 1 they could not."""
    genes, cells, truth = 30, 2000, 5.0
    counts = _nb_counts(torch.full((cells, genes), truth), 600 / genes)
    statistics = GeneStatistics(fraction=torch.full((genes,), 1 / genes), theta=torch.ones(genes))
    torch.manual_seed(0)
    config = NegativeBinomialDecoderConfig(hidden=(16,), dropout=0.0)
    decoder = config.build(sizes=Sizes(genes=genes, latent_dim=2), statistics=statistics)
    _train(decoder, 300, 1e-3, counts, torch.zeros(cells, 2), _conditions(torch.zeros(cells, 0)))
    assert _log_theta(decoder.dispersion).exp().mean().item() == pytest.approx(truth, rel=0.1)


def test_theta_cannot_leave_the_range_in_which_the_likelihood_is_exact():
    for of in KINDS:
        dispersion = _dispersion(of, 2)
        with torch.no_grad():
            dispersion.by_gene.offset.copy_(torch.tensor([-100.0, 100.0]))
        log_theta = _log_theta(dispersion)
        assert torch.equal(log_theta, torch.tensor(LOG_THETA_LIMITS).expand_as(log_theta))


def test_dispersion_per_condition_without_conditions_is_a_config_error():
    config = NegativeBinomialDecoderConfig(dispersion="condition")
    with pytest.raises(ConfigError, match=r"dispersion: condition needs .* gene or cell"):
        config.build(sizes=Sizes(genes=4, latent_dim=2), statistics=None)


def test_an_unknown_condition_has_the_genes_own_dispersion():
    """The coding 0 adds nothing, whatever has been learned; another coding does."""
    dispersion = nudge(_dispersion("condition", 30))
    hidden = torch.randn(2, WIDTH)
    unknown = dispersion(hidden, torch.full((len(hidden),), 100.0), _conditions(torch.zeros(2, 2)))
    torch.testing.assert_close(unknown, dispersion.by_gene().expand(2, 30))
    known = dispersion(hidden, torch.full((len(hidden),), 100.0), _conditions(torch.tensor([[0.5, -0.5], [-0.5, 0.5]])))
    assert ((known - unknown).abs() > 1e-3).float().mean() > 0.95
    torch.testing.assert_close(known.mean(0), unknown[0])


def test_the_dispersion_of_a_cell_follows_its_hidden_layer_and_not_its_condition():
    dispersion = nudge(_dispersion("cell", 30))
    hidden, condition = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0)), torch.eye(3, 2)
    log_theta = dispersion(hidden, torch.full((len(hidden),), 100.0), _conditions(condition))
    assert torch.cdist(log_theta, log_theta).fill_diagonal_(1.0).min() > 0.1
    assert torch.equal(dispersion(hidden, torch.full((3,), 100.0), _conditions(torch.zeros(3, 2))), log_theta)


@pytest.mark.parametrize("of", ["condition", "cell"])
def test_groups_of_different_dispersion_are_told_apart(of):
    """Two groups of cells of equal means, with theta 1 and 10: known by their condition, or by their latent."""
    genes, per_group = 20, 300
    truth = torch.tensor([1.0, 10.0])
    counts = _nb_counts(truth.repeat_interleave(per_group).unsqueeze(-1).expand(-1, genes).contiguous(), 600 / genes)
    coding = torch.tensor([[0.5, -0.5], [-0.5, 0.5]]).repeat_interleave(per_group, dim=0)
    z, condition = (torch.zeros_like(coding), coding) if of == "condition" else (coding, torch.zeros_like(coding))
    statistics = GeneStatistics(fraction=torch.full((genes,), 1 / genes), theta=torch.full((genes,), 3.0))
    torch.manual_seed(0)
    config = NegativeBinomialDecoderConfig(hidden=(WIDTH,), dropout=0.0, dispersion=of)
    decoder = config.build(sizes=Sizes(genes=genes, latent_dim=2, condition=2), statistics=statistics)
    _train(decoder, 150, 1e-2, counts, z, _conditions(condition))
    _, log_theta = decoder(z, torch.full((2 * per_group,), 600.0), _conditions(condition)).parameters
    learned = log_theta.view(2, per_group, genes).mean((1, 2)).exp()
    assert learned.tolist() == pytest.approx(truth.tolist(), rel=0.25)


def test_dispersion_that_changes_with_depth_is_found():
    """Counts whose theta is proportional to the library size, so that their variance is a multiple of the mean."""
    genes, per_depth, libraries = 20, 300, torch.tensor([200.0, 2000.0])
    library = libraries.repeat_interleave(per_depth)
    truth = (library / 200).unsqueeze(-1).expand(-1, genes).contiguous()  # 1 in shallow cells, 10 in deep ones
    mean = (library / genes).unsqueeze(-1).expand(-1, genes)
    counts = torch.poisson(torch._standard_gamma(truth) * mean / truth)
    middle = libraries.log().mean().item()
    statistics = GeneStatistics(torch.full((genes,), 1 / genes), torch.full((genes,), 3.0), log_library=middle)
    torch.manual_seed(0)
    config = NegativeBinomialDecoderConfig(hidden=(WIDTH,), dropout=0.0, dispersion_by_depth=True)
    decoder = config.build(sizes=Sizes(genes=genes, latent_dim=2), statistics=statistics)
    optimiser, z = torch.optim.Adam(decoder.parameters(), 1e-2), torch.zeros(2 * per_depth, 2)
    for _ in range(150):
        loss = -decoder(z, library, _conditions(z[:, :0])).log_prob(counts).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    _, log_theta = decoder(z, library, _conditions(z[:, :0])).parameters
    assert log_theta.exp().view(2, per_depth, genes).mean((1, 2)).tolist() == pytest.approx([1, 10], rel=0.3)
    assert decoder.dispersion.by_depth().mean().item() == pytest.approx(1, abs=0.15)


def test_a_cell_of_average_depth_has_the_genes_own_dispersion():
    statistics = GeneStatistics(torch.full((5,), 0.2), torch.full((5,), 3.0), log_library=6.5)
    dispersion = Dispersion(of="gene", sizes=Sizes(5, 4), hidden=8, rate=10.0, depth=True, statistics=statistics)
    torch.nn.init.normal_(dispersion.by_depth.offset)
    found = dispersion(torch.zeros(1, 8), torch.tensor([6.5]).exp(), Covariates.average(1, Sizes(5, 4)))
    torch.testing.assert_close(found[0], torch.full((5,), 3.0).log())
