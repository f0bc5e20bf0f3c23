"""What every encoder promises."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Encoder, EncoderConfig, Sizes
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import nudge, toy_statistics, unused_or_broken

SIZES = Sizes(genes=23, latent_dim=5, nuisance=3)


class EncoderContract(ComponentContract):
    """The contract of ``Encoder``."""

    config: EncoderConfig

    def build(self, sizes: Sizes = SIZES) -> Encoder:
        """Make the encoder, in eval mode and with weights that are not at their zero initialisation."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nudge(self.config.build(sizes=sizes, statistics=toy_statistics(sizes.genes)))

    def counts(self) -> Tensor:
        """Dense counts of four cells, (4, genes), the same at every call."""
        generator = torch.Generator().manual_seed(1)
        return torch.poisson(torch.rand(4, SIZES.genes, generator=generator) * 5, generator=generator)

    def posterior(self, encoder: Encoder, counts: Tensor, nuisance: Tensor | None = None) -> Normal:
        """The posterior of cells with these dense counts, of the average nuisance unless one is given."""
        covariates = Covariates.average(len(counts), SIZES)
        covariates = covariates if nuisance is None else Covariates(nuisance, covariates.condition)
        posterior: Normal = encoder(CountBatch.from_dense(counts), covariates)
        return posterior

    def extreme_counts(self) -> Tensor:
        """An empty cell, one with a single count, one with a million in one gene, one with a million in each."""
        counts = torch.zeros(4, SIZES.genes)
        counts[1, 0], counts[2, 3], counts[3] = 1, 1e6, 1e6
        return counts

    def test_the_posterior_has_one_location_and_scale_per_latent_dimension(self) -> None:
        """Location and scale are (batch, latent), finite, and the scale is positive."""
        posterior = self.posterior(self.build(), self.counts())
        assert posterior.loc.shape == posterior.scale.shape == (4, SIZES.latent_dim)
        assert posterior.loc.isfinite().all()
        assert (posterior.scale > 0).all()

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """A cell's posterior depends on its own counts only."""
        encoder, counts = self.build(), self.counts()
        together = self.posterior(encoder, counts)
        for i in range(len(counts)):
            alone = self.posterior(encoder, counts[i : i + 1])
            torch.testing.assert_close(alone.loc, together.loc[i : i + 1], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.scale, together.scale[i : i + 1], rtol=1e-4, atol=1e-5)

    def test_different_cells_have_different_posteriors(self) -> None:
        """The counts reach the posterior."""
        loc = self.posterior(self.build(), self.counts()).loc
        assert torch.cdist(loc, loc).fill_diagonal_(1.0).min() > 1e-4

    def test_the_nuisance_reaches_the_posterior_of_its_own_cell(self) -> None:
        """A cell's nuisance changes its posterior, and no other cell's; a model without nuisance works too."""
        encoder, counts, nuisance = self.build(), self.counts(), torch.zeros(4, SIZES.nuisance)
        before = self.posterior(encoder, counts, nuisance).loc
        nuisance[1] = 1.0
        change = (self.posterior(encoder, counts, nuisance).loc - before).abs().amax(-1)  # (batch,)
        assert change[1] > 1e-4
        assert change[[0, 2, 3]].max() < 1e-5
        plain = replace(SIZES, nuisance=0)
        posterior = self.build(plain)(CountBatch.from_dense(counts), Covariates.average(4, plain))
        assert posterior.loc.isfinite().all()

    def test_extreme_counts_give_a_finite_posterior(self) -> None:
        """Empty cells and cells of millions of counts have finite locations and finite positive scales."""
        for counts in (self.extreme_counts(), self.extreme_counts()[:1]):  # also where all of a batch is empty
            posterior = self.posterior(self.build(), counts)
            assert posterior.loc.isfinite().all()
            assert posterior.scale.isfinite().all()
            assert (posterior.scale > 0).all()

    def test_the_scale_is_bounded_whatever_the_weights(self) -> None:
        """Weights a hundred times too large still give a finite KL with finite gradients."""
        encoder = self.build()
        with torch.no_grad():
            for weight in encoder.parameters():
                weight.mul_(100.0)
        posterior = self.posterior(encoder, torch.cat([self.counts(), self.extreme_counts()]))
        kl = (0.5 * (posterior.loc**2 + posterior.scale**2 - 1) - posterior.scale.log()).sum()
        torch.autograd.backward(kl)
        assert kl.isfinite()
        assert all(weight.grad.isfinite().all() for weight in encoder.parameters() if weight.grad is not None)

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        """No weight is left unused, and no gradient is infinite or nan."""
        encoder = self.build().train()
        posterior = self.posterior(encoder, self.counts(), nuisance=torch.ones(4, SIZES.nuisance))
        torch.autograd.backward((posterior.loc.square() + posterior.scale).sum())
        assert unused_or_broken(encoder) == []

    def test_what_is_taken_from_the_data_is_saved_with_the_weights(self) -> None:
        """An encoder that started from gene statistics is the same after its weights are loaded into one without."""
        started, loaded = self.build(), self.config.build(sizes=SIZES, statistics=None).eval()
        loaded.load_state_dict(started.state_dict())
        before, after = (self.posterior(encoder, self.counts()) for encoder in (started, loaded))
        torch.testing.assert_close(after.loc, before.loc)
        torch.testing.assert_close(after.scale, before.scale)

    def test_half_and_double_precision_weights_work(self) -> None:
        """A module cast to bfloat16 or float64 takes the same counts."""
        for dtype in (torch.bfloat16, torch.float64):
            posterior = self.posterior(self.build().to(dtype), self.counts())
            assert posterior.loc.isfinite().all()
            assert (posterior.scale > 0).all()

    def test_eval_mode_is_deterministic(self) -> None:
        """In eval mode the same counts give the same posterior: no dropout is left on."""
        encoder = self.build()
        first, again = (self.posterior(encoder, self.counts()) for _ in range(2))
        assert torch.equal(first.loc, again.loc)
        assert torch.equal(first.scale, again.scale)
