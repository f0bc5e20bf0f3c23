"""What every encoder promises."""

from __future__ import annotations

import torch
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Encoder, EncoderConfig
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import nudge, unused_or_broken

GENES, LATENT = 23, 5


class EncoderContract(ComponentContract):
    """The contract of ``Encoder``."""

    config: EncoderConfig

    def build(self) -> Encoder:
        """Make the encoder, in eval mode and with weights that are not at their zero initialisation."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nudge(self.config.build(genes=GENES, latent_dim=LATENT))

    def counts(self) -> Tensor:
        """Dense counts of four cells, (4, genes), the same at every call."""
        generator = torch.Generator().manual_seed(1)
        return torch.poisson(torch.rand(4, GENES, generator=generator) * 5, generator=generator)

    def extreme_counts(self) -> Tensor:
        """An empty cell, one with a single count, one with a million in one gene, one with a million in each."""
        counts = torch.zeros(4, GENES)
        counts[1, 0], counts[2, 3], counts[3] = 1, 1e6, 1e6
        return counts

    def test_the_posterior_has_one_location_and_scale_per_latent_dimension(self) -> None:
        """Location and scale are (batch, latent), finite, and the scale is positive."""
        posterior = self.build()(CountBatch.from_dense(self.counts()))
        assert posterior.loc.shape == posterior.scale.shape == (4, LATENT)
        assert posterior.loc.isfinite().all()
        assert (posterior.scale > 0).all()

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """A cell's posterior depends on its own counts only."""
        encoder, counts = self.build(), self.counts()
        together = encoder(CountBatch.from_dense(counts))
        for i in range(len(counts)):
            alone = encoder(CountBatch.from_dense(counts[i : i + 1]))
            torch.testing.assert_close(alone.loc, together.loc[i : i + 1], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.scale, together.scale[i : i + 1], rtol=1e-4, atol=1e-5)

    def test_different_cells_have_different_posteriors(self) -> None:
        """The counts reach the posterior."""
        loc = self.build()(CountBatch.from_dense(self.counts())).loc
        assert torch.cdist(loc, loc).fill_diagonal_(1.0).min() > 1e-4

    def test_extreme_counts_give_a_finite_posterior(self) -> None:
        """Empty cells and cells of millions of counts have finite locations and finite positive scales."""
        posterior = self.build()(CountBatch.from_dense(self.extreme_counts()))
        assert posterior.loc.isfinite().all()
        assert posterior.scale.isfinite().all()
        assert (posterior.scale > 0).all()

    def test_the_scale_is_bounded_whatever_the_weights(self) -> None:
        """Weights a hundred times too large still give a finite KL with finite gradients."""
        encoder = self.build()
        with torch.no_grad():
            for weight in encoder.parameters():
                weight.mul_(100.0)
        posterior = encoder(CountBatch.from_dense(torch.cat([self.counts(), self.extreme_counts()])))
        kl = (0.5 * (posterior.loc**2 + posterior.scale**2 - 1) - posterior.scale.log()).sum()
        kl.backward()
        assert kl.isfinite()
        assert unused_or_broken(encoder) == []

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        """No weight is left unused, and no gradient is infinite or nan."""
        encoder = self.build().train()
        posterior = encoder(CountBatch.from_dense(self.counts()))
        (posterior.loc.square() + posterior.scale).sum().backward()
        assert unused_or_broken(encoder) == []

    def test_half_and_double_precision_weights_work(self) -> None:
        """A module cast to bfloat16 or float64 takes the same counts."""
        for dtype in (torch.bfloat16, torch.float64):
            posterior = self.build().to(dtype)(CountBatch.from_dense(self.counts()))
            assert posterior.loc.isfinite().all()
            assert (posterior.scale > 0).all()

    def test_eval_mode_is_deterministic(self) -> None:
        """In eval mode the same counts give the same posterior: no dropout is left on."""
        encoder, counts = self.build(), CountBatch.from_dense(self.counts())
        assert torch.equal(encoder(counts).loc, encoder(counts).loc)
        assert torch.equal(encoder(counts).scale, encoder(counts).scale)
