"""The set transformer encoder."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal

from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Encoder, Sizes
from latdiff_core.testing import EncoderContract, nudge
from latdiff_counts import NegativeBinomialDecoderConfig, SetTransformerEncoderConfig

SMALL = SetTransformerEncoderConfig(width=16, queries=3, depth=1, heads=2)
SIZES = Sizes(genes=30, latent_dim=4)


class TestSetTransformerEncoder(EncoderContract):
    config = SMALL


class TestDeepSetTransformerEncoder(EncoderContract):
    config = SetTransformerEncoderConfig(width=12, queries=2, depth=3, heads=3)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return nudge(SMALL.build(sizes=SIZES, statistics=None))


def _posterior(encoder: Encoder, counts: CountBatch) -> Normal:
    return encoder(counts, Covariates.average(len(counts), SIZES))


def _counts(cells: int = 6) -> Tensor:
    """Dense counts, (cells, genes), most of them zero, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.rand(cells, SIZES.genes, generator=generator) ** 3 * 4, generator=generator)


def test_the_order_of_the_stored_entries_does_not_matter(encoder):
    """The entries of a cell are a set."""
    counts = CountBatch.from_dense(_counts())
    generator = torch.Generator().manual_seed(0)
    cells = zip(counts.indptr[:-1].tolist(), counts.indptr.diff().tolist(), strict=True)
    order = torch.cat([start + torch.randperm(stored, generator=generator) for start, stored in cells])
    shuffled = CountBatch(counts.indptr, counts.indices[order], counts.values[order], counts.genes)
    assert not torch.equal(shuffled.indices, counts.indices)
    torch.testing.assert_close(_posterior(encoder, shuffled).loc, _posterior(encoder, counts).loc)


def test_it_sees_values_and_not_only_which_genes_are_expressed(encoder):
    """Cells of the same genes and the same library, in other proportions."""
    counts = torch.zeros(2, SIZES.genes)
    counts[0, :4], counts[1, :4] = torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([10.0, 3.0, 2.0, 1.0])
    first, second = _posterior(encoder, CountBatch.from_dense(counts)).loc
    assert (first - second).abs().max() > 1e-2


def test_it_sees_which_genes_are_expressed_and_not_only_values(encoder):
    counts = torch.zeros(2, SIZES.genes)
    counts[0, :4], counts[1, 4:8] = 5.0, 5.0
    first, second = _posterior(encoder, CountBatch.from_dense(counts)).loc
    assert (first - second).abs().max() > 1e-2


def test_it_sees_the_library_size(encoder):
    """The same profile at ten times the depth is less uncertain, and an encoder can only know it from the library."""
    first, second = (_posterior(encoder, CountBatch.from_dense(k * _counts())).loc for k in (1, 10))
    assert (first - second).abs().max() > 1e-3


def test_an_empty_cell_is_finite_alone_and_among_others(encoder):
    counts = _counts()
    counts[2] = 0
    among = _posterior(encoder, CountBatch.from_dense(counts))
    alone = _posterior(encoder, CountBatch.from_dense(counts[2:3]))
    assert among.loc.isfinite().all()
    torch.testing.assert_close(alone.loc[0], among.loc[2])
    alone.loc.sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in encoder.parameters())


def test_the_padding_of_another_cell_changes_nothing(encoder):
    """A cell of three genes beside one that expresses all, and beside none."""
    counts = torch.zeros(2, SIZES.genes)
    counts[0, :3], counts[1] = 2.0, 7.0
    beside = _posterior(encoder, CountBatch.from_dense(counts))
    alone = _posterior(encoder, CountBatch.from_dense(counts[:1]))
    torch.testing.assert_close(beside.loc[:1], alone.loc)
    torch.testing.assert_close(beside.scale[:1], alone.scale)


def test_a_stored_zero_is_not_an_expressed_gene(encoder):
    plain = CountBatch.from_dense(torch.tensor([[4.0, *[0.0] * 29]]))
    stored = CountBatch(torch.tensor([0, 2]), torch.tensor([0, 7]), torch.tensor([4.0, 0.0]), SIZES.genes)
    torch.testing.assert_close(_posterior(encoder, stored).loc, _posterior(encoder, plain).loc)


def test_a_gene_in_no_cell_gets_a_gradient_of_zero(encoder):
    counts = _counts()
    counts[:, 5] = 0
    _posterior(encoder, CountBatch.from_dense(counts)).loc.sum().backward()
    gradient = encoder.genes.embedding.weight.grad.abs().amax(-1)
    assert gradient[5] == 0
    expressed = counts.sum(0) > 0
    assert (gradient[:-1][expressed] > 0).all()


def test_training_starts_from_posteriors_that_differ_between_cells():
    """An attention that averages over hundreds of genes would be the same in every cell, to a thousandth."""
    generator = torch.Generator().manual_seed(0)
    profiles = torch.exp(torch.randn(1, 500, generator=generator) + torch.randn(64, 500, generator=generator))
    counts = torch.poisson(1000 * profiles / profiles.sum(-1, keepdim=True), generator=generator)
    sizes = Sizes(genes=500, latent_dim=8)
    torch.manual_seed(0)
    encoder = SetTransformerEncoderConfig().build(sizes=sizes, statistics=None).eval()
    loc = encoder(CountBatch.from_dense(counts), Covariates.average(64, sizes)).loc
    share = (loc.var(0).mean() / loc.square().mean()).item()
    print(f"share of the initial posterior means that is between cells: {share:.3g}")
    assert share > 0.15


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match=r"heads \(5\) must divide width \(64\)"):
        SetTransformerEncoderConfig(heads=5)


def test_it_learns_what_a_cell_is():
    """On three simulated types, the held-out likelihood is better than that of a model whose latent is always 0."""
    generator = torch.Generator().manual_seed(0)
    profiles = torch.exp(1.2 * torch.randn(3, SIZES.genes, generator=generator))
    mean = 150 * profiles / profiles.sum(-1, keepdim=True)
    counts = torch.poisson(mean[torch.arange(240) % 3], generator=generator)
    train, test = (CountBatch.from_dense(part) for part in (counts[:180], counts[180:]))

    def held_out_nll(latent: float) -> float:
        torch.manual_seed(0)
        decoder = NegativeBinomialDecoderConfig(hidden=(32,), dropout=0.0, weight_prior=None).build(
            sizes=SIZES, statistics=None
        )
        model = CountAutoencoder(SMALL.build(sizes=SIZES, statistics=None), decoder, SIZES.latent_dim)
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(80):
            posterior = model.encode(train, Covariates.average(180, SIZES))
            z = latent * posterior.rsample()
            nll = -model.decode(z, train.library, Covariates.average(180, SIZES)).log_likelihood(train).mean()
            kl = (0.5 * (posterior.loc**2 + posterior.scale**2 - 1) - posterior.scale.log()).sum(-1).mean()
            optimiser.zero_grad()
            (nll + kl).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            z = latent * model.encode(test, Covariates.average(60, SIZES)).loc
            return -model.decode(z, test.library, Covariates.average(60, SIZES)).log_likelihood(test).mean().item()

    informed, blind = held_out_nll(1.0), held_out_nll(0.0)
    print(f"held-out nll per cell: {informed:.1f}, with the latent at 0: {blind:.1f}")
    assert informed < blind - 8
