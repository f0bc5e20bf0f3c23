"""What every decoder, and the count distribution it returns, promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_core.errors import ShapeError
from latdiff_core.interfaces import CountDistribution, Decoder, DecoderConfig
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import nudge, unused_or_broken

GENES, LATENT = 7, 3
LIBRARY = torch.tensor([20.0, 40.0, 60.0, 10.0])


class DecoderContract(ComponentContract):
    """The contract of ``Decoder`` and ``CountDistribution``.

    Attributes
    ----------
    largest_count
        Counts up to here must hold all of the probability of cells with a library of 10 to 60.
    """

    config: DecoderConfig
    largest_count: int = 3000

    def build(self) -> Decoder:
        """Make the decoder, in eval mode and with weights that are not at their zero initialisation."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nudge(self.config.build(genes=GENES, latent_dim=LATENT, statistics=None))

    def latents(self) -> Tensor:
        """Latents of four cells, (4, latent), the same at every call."""
        return torch.randn(4, LATENT, generator=torch.Generator().manual_seed(1))

    def distribution(self) -> CountDistribution:
        """The distribution of the four cells, without gradient."""
        with torch.no_grad():
            distribution: CountDistribution = self.build()(self.latents(), LIBRARY)
            return distribution

    def test_the_distribution_is_over_cells_and_genes(self) -> None:
        """Batch shape, mean and variance are (batch, genes), and mean and variance are positive."""
        distribution = self.distribution()
        assert distribution.batch_shape == distribution.mean.shape == distribution.variance.shape == (4, GENES)
        assert (distribution.mean > 0).all()
        assert (distribution.variance > 0).all()

    def test_probabilities_sum_to_one(self) -> None:
        """Over all counts, the probabilities of each gene of a cell sum to 1; so they do under autocast."""
        values = torch.arange(self.largest_count).unsqueeze(-1).expand(-1, GENES)
        z, library = self.latents()[:1].expand(len(values), -1), LIBRARY[:1].expand(len(values))
        for half in (False, True):
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                total = self.build()(z, library).log_prob(values).exp().sum(0)
            torch.testing.assert_close(total, torch.ones(GENES), rtol=0, atol=1e-4)

    def test_samples_have_the_mean_and_variance_that_are_promised(self) -> None:
        """The moments of 20,000 draws agree with ``mean`` and ``variance``."""
        distribution, n = self.distribution(), 20_000
        draws = distribution.sample((n,), generator=torch.Generator().manual_seed(0))
        assert draws.shape == (n, 4, GENES)
        error = (draws.mean(0) - distribution.mean).abs() / (distribution.variance / n).sqrt()
        assert error.max() < 5.0
        torch.testing.assert_close(draws.var(0), distribution.variance, rtol=0.2, atol=0.01)

    def test_samples_are_counts_and_follow_the_seed(self) -> None:
        """Draws are integers >= 0; the same generator state gives the same draw, dense or sparse."""
        distribution = self.distribution()
        first, again, other = (distribution.sample(generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(first, first.round())
        assert (first >= 0).all()
        sparse = [distribution.sample_csr(torch.Generator().manual_seed(0)) for _ in range(2)]
        assert sparse[0].shape == (4, GENES)
        assert sparse[0].dtype == "int32"
        assert (sparse[0] != sparse[1]).nnz == 0

    def test_the_sparse_log_likelihood_is_the_dense_one(self) -> None:
        """``log_likelihood`` of a sparse batch is ``log_prob`` summed over genes, also for an empty cell."""
        distribution = self.distribution()
        counts = distribution.sample(generator=torch.Generator().manual_seed(0))
        counts[1] = 0
        dense = distribution.log_prob(counts).sum(-1)
        torch.testing.assert_close(distribution.log_likelihood(CountBatch.from_dense(counts)), dense)

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """No cell sees the latent or the library of another cell."""
        decoder, z, together = self.build(), self.latents(), self.distribution()
        for i in range(len(z)):
            alone = decoder(z[i : i + 1], LIBRARY[i : i + 1])
            torch.testing.assert_close(alone.mean, together.mean[i : i + 1])
            torch.testing.assert_close(alone.variance, together.variance[i : i + 1])

    def test_a_library_of_the_wrong_shape_is_refused(self) -> None:
        """A library that is not (batch,) would broadcast into (batch, batch, genes)."""
        for wrong in (LIBRARY.unsqueeze(-1), LIBRARY[:1], LIBRARY[0]):
            with pytest.raises(ShapeError):
                self.build()(self.latents(), wrong)

    def test_the_library_sets_the_scale(self) -> None:
        """A larger library means larger expected counts; one of integers is as good as one of floats."""
        decoder, z = self.build(), self.latents()
        mean = decoder(z, LIBRARY).mean
        assert (decoder(z, 2 * LIBRARY).mean > mean).all()
        torch.testing.assert_close(decoder(z, LIBRARY.long()).mean, mean)

    def test_the_likelihood_is_at_least_float32(self) -> None:
        """Weights in bfloat16 give the likelihood in float32, and weights in float64 give it in float64."""
        counts = CountBatch.from_dense(torch.ones(4, GENES))
        for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
            likelihood = self.build().to(dtype)(self.latents().to(dtype), LIBRARY).log_likelihood(counts)
            assert likelihood.dtype == expected
            assert likelihood.isfinite().all()

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        """Every weight takes part, and its gradient is finite at empty cells and at cells of a million counts."""
        counts = torch.ones(4, GENES)
        counts[0], counts[1], counts[2, 0] = 0, 1e6, 1e6
        decoder, library = self.build().train(), torch.tensor([1.0, 7e6, 1e6, 7.0])
        decoder(self.latents(), library).log_likelihood(CountBatch.from_dense(counts)).sum().backward()
        assert unused_or_broken(decoder) == []
