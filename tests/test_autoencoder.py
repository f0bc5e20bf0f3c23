"""Stage 1: the parts of the bound, precision, freezing, collapse."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from latdiff_core import CountBatch, LatentDiffusion
from latdiff_core.assembly import build_autoencoder
from latdiff_core.autoencoder import CountAutoencoder
from latdiff_core.errors import ShapeError
from latdiff_core.interfaces import Covariates
from latdiff_core.schema import DataSchema
from latdiff_core.training.fit import report_activity

COUNTS = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(0))
NOTHING = Covariates(torch.zeros(6, 0), torch.zeros(6, 0))


@pytest.fixture
def autoencoder(make_model) -> CountAutoencoder:
    schema = DataSchema(genes=tuple("abcde"), attributes=(), cells=1)
    torch.manual_seed(0)
    return build_autoencoder(make_model().config, schema).eval()


@pytest.mark.parametrize("decoder", ["negative_binomial", "zero_inflated_negative_binomial"])
def test_the_bound_is_the_likelihood_plus_the_weighted_kl(make_model, decoder):
    schema = DataSchema(genes=tuple("abcde"), attributes=(), cells=1)
    autoencoder = build_autoencoder(make_model({"autoencoder.decoder": decoder}).config, schema).eval()
    batch = CountBatch.from_dense(COUNTS)
    torch.manual_seed(1)
    elbo = autoencoder.elbo(batch, NOTHING, beta=0.3)
    torch.manual_seed(1)
    posterior = autoencoder.encode(batch, NOTHING)
    z = posterior.rsample()
    dense = autoencoder.decode(z, batch.library, NOTHING).log_prob(COUNTS.float()).sum(1)  # summed over genes, per cell
    kl = kl_divergence(posterior, Normal(0.0, 1.0))  # (batch, latent)
    assert elbo.kl.shape == (autoencoder.latent_dim,)
    torch.testing.assert_close(elbo.nll, -dense.mean())
    torch.testing.assert_close(elbo.kl, kl.mean(0))
    torch.testing.assert_close(elbo.loss, -dense.mean() + 0.3 * kl.sum(1).mean())


def test_free_bits_cost_nothing_and_give_no_gradient(autoencoder):
    batch = CountBatch.from_dense(COUNTS)

    def gradient(beta: float, free_bits: float) -> tuple[float, torch.Tensor]:
        autoencoder.zero_grad()
        torch.manual_seed(1)
        elbo = autoencoder.elbo(batch, NOTHING, beta, free_bits)
        elbo.loss.backward()
        return (elbo.loss - elbo.nll).item(), autoencoder.encoder.mean.weight.grad.clone()

    cost, of_free = gradient(1.0, 1000.0)
    assert cost == pytest.approx(1000.0 * autoencoder.latent_dim, rel=1e-4)
    torch.testing.assert_close(of_free, gradient(0.0, 0.0)[1])
    assert not torch.allclose(of_free, gradient(1.0, 0.0)[1])
    between = autoencoder.elbo(batch, NOTHING).kl.sort().values[:2].mean().item()  # above the smallest only
    elbo = autoencoder.elbo(batch, NOTHING, 1.0, between)
    torch.testing.assert_close(elbo.loss - elbo.nll, elbo.kl.clamp(min=between).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_models_of_any_precision_take_integer_counts_and_give_the_loss_in_float32_or_better(autoencoder, dtype):
    """Mistakes B4 and B8."""
    elbo = autoencoder.to(dtype).elbo(CountBatch.from_dense(COUNTS), NOTHING)
    for part in (elbo.loss, elbo.nll, elbo.kl):
        assert part.dtype == torch.promote_types(dtype, torch.float32)
        assert part.isfinite().all()
    autoencoder.to(dtype).elbo(CountBatch.from_dense(COUNTS), NOTHING).loss.backward()
    assert all(p.grad.isfinite().all() for p in autoencoder.parameters())


@pytest.mark.parametrize(("z", "library"), [((6, 4), (6, 1)), ((6, 4), (1,)), ((6, 4), ()), ((6, 3), (6,))])
def test_wrong_shapes_are_refused_before_they_reach_a_decoder(autoencoder, monkeypatch, z, library):
    """Mistake B4: a library of (batch, 1) silently gives (batch, batch, genes) in a decoder that does not look."""
    monkeypatch.setattr(autoencoder.decoder, "forward", lambda z, library, covariates: None)
    with pytest.raises(ShapeError, match="has shape"):
        autoencoder.decode(torch.zeros(z), torch.ones(library), NOTHING)


def test_a_fitted_model_is_frozen_and_in_evaluation_mode(fitted_model, tmp_path, tiny_data):
    """Mistake B14: "frozen" networks with gradients and dropout still on."""
    fitted_model.save(tmp_path / "run")
    for model in (fitted_model, LatentDiffusion.load(tmp_path / "run")):
        for network in (model.fitted.autoencoder, model.fitted.diffusion):
            assert not any(p.requires_grad for p in network.parameters())
            assert not any(m.training for m in network.modules())
        np.testing.assert_array_equal(model.embed(tiny_data), model.embed(tiny_data))


def test_a_dead_latent_is_reported_with_what_to_change(caplog):
    """Mistake B11: posterior collapse that nobody hears of."""
    generator = torch.Generator().manual_seed(0)
    lively, dead = torch.randn(200, 6, generator=generator), 0.01 * torch.randn(200, 6, generator=generator)
    assert report_activity(torch.cat([lively[:, :3], dead[:, :3]], 1)) == 3
    assert caplog.records == []
    assert report_activity(dead) == 0
    assert "posterior collapse: 0 of 6" in caplog.text
    assert "kl_weight" in caplog.text


def test_fit_warns_of_a_collapsed_posterior(make_model, tiny_data, caplog):
    heavy = {"epochs": 15, "kl_weight": 1000.0, "kl_warmup": 0.0, "batch_size": 32, "learning_rate": 0.02}
    with caplog.at_level(logging.WARNING, logger="latdiff_core"):
        model = make_model({"training.autoencoder": heavy}).fit(tiny_data, progress=False)
    assert "posterior collapse" in caplog.text
    assert model.fitted.provenance["metrics"]["active_latent_dimensions"] <= 1


@pytest.mark.parametrize(
    ("reads", "decoder", "warned"),
    [
        (1, "negative_binomial_mixture", False),
        (50, "negative_binomial_mixture", True),
        (50, "zero_inflated_negative_binomial", False),
    ],
)
def test_fit_warns_of_reads_that_no_zero_inflation_explains(make_model, tiny_data, caplog, reads, decoder, warned):
    """A mixture of NB fitted to reads generates cells that a forest tells from real ones with an AUC of 0.95."""
    cells = tiny_data[:, tiny_data.X.getnnz(axis=0) < 80].copy()
    assert cells.X.getnnz() < 0.7 * np.prod(cells.shape)
    cells.X = reads * cells.X
    cells = cells[cells.X.getnnz(axis=1) > 0].copy()
    short = {"training.autoencoder": {"epochs": 1, "min_steps": 1}, "training.diffusion": {"steps": 1, "checks": 1}}
    with caplog.at_level(logging.WARNING, logger="latdiff_core"):
        make_model({"autoencoder.decoder": {"kind": decoder}, **short}).fit(cells, progress=False)
    assert ("sequencing reads" in caplog.text) == warned
