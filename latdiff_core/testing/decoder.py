"""What every decoder, and the count distribution it returns, promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_core.errors import ShapeError
from latdiff_core.interfaces import CountDistribution, Covariates, Decoder, DecoderConfig, Sizes
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import nudge, toy_statistics, unused_or_broken

SIZES = Sizes(genes=7, latent_dim=3, nuisance=2, condition=3)
LIBRARY = torch.tensor([20.0, 40.0, 60.0, 10.0])
DRAWS = 20_000


class AnyDecoderContract(ComponentContract):
    """What also a decoder that generates no counts promises; use ``DecoderContract`` for one that does."""

    config: DecoderConfig

    def build(self, sizes: Sizes = SIZES) -> Decoder:
        """Make the decoder, in eval mode and with weights that are not at their zero initialisation."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nudge(self.config.build(sizes=sizes, statistics=None))

    def decode(self, decoder: Decoder, library: Tensor = LIBRARY, rows: slice = slice(None)) -> CountDistribution:
        """The distribution of four cells, or of some of them."""
        covariates = Covariates(self.covariates().nuisance[rows], self.covariates().condition[rows])
        z = self.latents()[rows].to(next(decoder.parameters()).dtype)
        distribution: CountDistribution = decoder(z, library[rows], covariates)
        return distribution

    def covariates(self) -> Covariates:
        """Nuisance and condition of four cells, the same at every call."""
        generator = torch.Generator().manual_seed(2)
        nuisance = torch.randn(4, SIZES.nuisance, generator=generator)
        return Covariates(nuisance, torch.randn(4, SIZES.condition, generator=generator))

    def latents(self) -> Tensor:
        """Latents of four cells, (4, latent), the same at every call."""
        return torch.randn(4, SIZES.latent_dim, generator=torch.Generator().manual_seed(1))

    def distribution(self) -> CountDistribution:
        """The distribution of the four cells, without gradient."""
        with torch.no_grad():
            return self.decode(self.build())

    def test_the_distribution_is_over_cells_and_genes(self) -> None:
        """Batch shape, mean and variance are (batch, genes), and the variance is positive."""
        distribution = self.distribution()
        assert distribution.batch_shape == distribution.mean.shape == distribution.variance.shape == (4, SIZES.genes)
        assert distribution.mean.isfinite().all()
        assert (distribution.variance > 0).all()

    def test_samples_follow_the_seed(self) -> None:
        """The same generator state gives the same draw, dense or sparse."""
        distribution = self.distribution()
        first, again, other = (distribution.sample(generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        sparse = [distribution.sample_csr(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert sparse[0].shape == (4, SIZES.genes)
        assert (sparse[0] != sparse[1]).nnz == 0
        assert (sparse[0] != sparse[2]).nnz > 0

    def test_the_sparse_log_likelihood_is_the_dense_one(self) -> None:
        """``log_likelihood`` of a sparse batch is ``log_prob`` summed over genes, also for an empty cell."""
        distribution = self.distribution()
        counts = torch.poisson(torch.full((4, SIZES.genes), 2.0), generator=torch.Generator().manual_seed(0))
        counts[1] = 0
        dense = distribution.log_prob(counts).sum(-1)
        torch.testing.assert_close(distribution.log_likelihood(CountBatch.from_dense(counts)), dense)

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """No cell sees the latent, the library or the covariates of another cell."""
        decoder, together = self.build(), self.distribution()
        for i in range(4):
            alone = self.decode(decoder, rows=slice(i, i + 1))
            torch.testing.assert_close(alone.mean, together.mean[i : i + 1])
            torch.testing.assert_close(alone.variance, together.variance[i : i + 1])

    def test_what_is_taken_from_the_data_is_saved_with_the_weights(self) -> None:
        """A decoder that started from gene statistics is the same after its weights are loaded into one without."""
        started = self.config.build(sizes=SIZES, statistics=toy_statistics(SIZES.genes)).eval()
        loaded = self.config.build(sizes=SIZES, statistics=None).eval()
        loaded.load_state_dict(started.state_dict())
        for before, after in zip(*(self._moments(decoder) for decoder in (started, loaded)), strict=True):
            torch.testing.assert_close(after, before)

    def test_the_log_prior_is_a_number_with_finite_gradients(self) -> None:
        """``log_prior`` is a finite number that, where it depends on weights, tells them so and falls as they grow."""
        decoder = self.build().train()
        prior = decoder.log_prior()
        assert prior.shape == ()
        assert prior.isfinite()
        if prior.requires_grad:
            torch.autograd.backward(prior)
            assert all(w.grad.isfinite().all() for w in decoder.parameters() if w.grad is not None)
        with torch.no_grad():
            for weight in decoder.parameters():
                weight.mul_(100)
        grown = decoder.log_prior()
        assert grown < prior if prior.requires_grad else torch.equal(grown, prior)

    def _moments(self, decoder: Decoder) -> tuple[Tensor, Tensor]:
        distribution = self.decode(decoder)
        return distribution.mean, distribution.variance

    def test_a_cell_of_which_nothing_is_known_has_a_distribution(self) -> None:
        """Covariates of 0, which stand for the average and the unknown, give finite moments."""
        distribution = self.build()(self.latents(), LIBRARY, Covariates.average(4, SIZES))
        assert distribution.mean.isfinite().all()
        assert distribution.variance.isfinite().all()

    def test_the_nuisance_reaches_the_distribution(self) -> None:
        """The batch of a cell changes its distribution, or the latent would have to hold it; so it does without one."""
        decoder, known = self.build(), self.covariates()
        unknown = Covariates(torch.zeros_like(known.nuisance), known.condition)
        before, after = (decoder(self.latents(), LIBRARY, covariates).mean for covariates in (known, unknown))
        assert ((before - after).abs().amax(-1) > 1e-4 * before.abs().amax(-1)).all()
        plain = replace(SIZES, nuisance=0)
        covariates = Covariates(known.nuisance[:, :0], known.condition)
        assert self.build(plain)(self.latents(), LIBRARY, covariates).mean.isfinite().all()

    def test_the_latent_reaches_the_distribution(self) -> None:
        """Every dimension of a cell's latent changes its likelihood, and is told how by a gradient."""
        z = self.latents().requires_grad_()
        distribution = self.build()(z, LIBRARY, self.covariates())
        likelihood = distribution.log_likelihood(CountBatch.from_dense(torch.arange(4 * SIZES.genes).view(4, -1)))
        (gradient,) = torch.autograd.grad(likelihood.sum(), z, allow_unused=True)
        assert gradient is not None
        assert (gradient != 0).all()

    def test_a_library_of_the_wrong_shape_is_refused(self) -> None:
        """A library that is not (batch,) would broadcast into (batch, batch, genes)."""
        for wrong in (LIBRARY.unsqueeze(-1), LIBRARY[:1], LIBRARY[0]):
            with pytest.raises(ShapeError):
                self.build()(self.latents(), wrong, self.covariates())

    def test_the_likelihood_is_at_least_float32(self) -> None:
        """Weights in bfloat16 give the likelihood in float32, and weights in float64 give it in float64."""
        counts = CountBatch.from_dense(torch.ones(4, SIZES.genes))
        for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
            likelihood = self.decode(self.build().to(dtype)).log_likelihood(counts)
            assert likelihood.dtype == expected
            assert likelihood.isfinite().all()

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        """Every weight takes part, and its gradient is finite at empty cells and at cells of a million counts."""
        counts = torch.ones(4, SIZES.genes)
        counts[0], counts[1], counts[2, 0] = 0, 1e6, 1e6
        decoder, library = self.build().train(), torch.tensor([1.0, 7e6, 1e6, 7.0])
        torch.autograd.backward(self.decode(decoder, library).log_likelihood(CountBatch.from_dense(counts)).sum())
        assert unused_or_broken(decoder) == []

    def test_samples_have_the_mean_and_variance_that_are_promised(self) -> None:
        """The moments of 20,000 draws agree with ``mean`` and ``variance``."""
        draws = self.distribution().sample((DRAWS,), generator=torch.Generator().manual_seed(0))
        assert draws.shape == (DRAWS, 4, SIZES.genes)
        self._has_the_moments(draws)

    def test_sparse_samples_have_the_mean_and_variance_that_are_promised(self) -> None:
        """So do those of ``sample_csr``, which is what generation calls."""
        decoder, known = self.build(), self.covariates()
        z, library, *covariates = (x.repeat(DRAWS, *(1,) * (x.dim() - 1)) for x in (
            self.latents(), LIBRARY, known.nuisance, known.condition,
        ))  # fmt: skip
        with torch.no_grad():
            distribution = decoder(z, library, Covariates(*covariates))
            draws = distribution.sample_csr(torch.Generator().manual_seed(0))
        self._has_the_moments(torch.as_tensor(draws.toarray()).float().view(DRAWS, 4, SIZES.genes))

    def _has_the_moments(self, draws: Tensor) -> None:
        distribution, n = self.distribution(), len(draws)
        error = (draws.mean(0) - distribution.mean).abs() / (distribution.variance / n).sqrt()
        assert error.max() < 5.0
        centred = draws - draws.mean(0)
        spread = ((centred**4).mean(0) / n - distribution.variance**2 / n).clamp(min=0).sqrt()  # of the sample variance
        assert ((draws.var(0) - distribution.variance).abs() < 6 * spread + 0.02 * distribution.variance).all()


class DecoderContract(AnyDecoderContract):
    """The contract of ``Decoder`` and ``CountDistribution``.

    Attributes
    ----------
    largest_count
        Counts below this must hold all of the probability of cells with a library of 10 to 60.
    """

    largest_count: int = 3000

    def test_probabilities_sum_to_one(self) -> None:
        """Over all counts, the probabilities of each gene of a cell sum to 1; so they do under autocast."""
        decoder, n, known = self.build(), self.largest_count, self.covariates()
        z, library, *covariates = (
            x.repeat_interleave(n, 0) for x in (self.latents(), LIBRARY, known.nuisance, known.condition)
        )
        values = torch.arange(n).repeat(4).unsqueeze(-1).expand(-1, SIZES.genes)  # all of one cell, then of the next
        for half in (False, True):
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                log_prob = decoder(z, library, Covariates(*covariates)).log_prob(values)
            total = log_prob.exp().view(4, n, SIZES.genes).sum(1)
            torch.testing.assert_close(total, torch.ones(4, SIZES.genes), rtol=0, atol=1e-4)

    def test_samples_are_counts(self) -> None:
        """Draws are integers >= 0, as int32 when they are sparse."""
        distribution = self.distribution()
        draw = distribution.sample(generator=torch.Generator().manual_seed(0))
        assert torch.equal(draw, draw.round())
        assert (draw >= 0).all()
        assert distribution.sample_csr(torch.Generator().manual_seed(0)).dtype == "int32"

    def test_the_mean_is_positive(self) -> None:
        """Every gene can have counts."""
        assert (self.distribution().mean > 0).all()

    def test_the_library_sets_the_scale(self) -> None:
        """A larger library means larger expected counts; one of integers is as good as one of floats."""
        decoder = self.build()
        mean = self.decode(decoder).mean
        assert (self.decode(decoder, 2 * LIBRARY).mean > mean).all()
        torch.testing.assert_close(self.decode(decoder, LIBRARY.long()).mean, mean)
