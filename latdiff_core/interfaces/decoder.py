"""Decoder: from a latent and a library size to a distribution over counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latdiff_core.counts import CountBatch
from latdiff_core.errors import LatdiffError
from latdiff_core.interfaces.component import ComponentConfig
from latdiff_core.interfaces.covariates import Covariates, Sizes
from latdiff_core.interfaces.statistics import GeneStatistics

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LARGEST_INT32 = 2.0**31


def as_int32(counts: Tensor) -> Tensor:
    """Sampled counts as int32.

    Raises
    ------
    LatdiffError
        If one is not finite, negative (a Poisson draw of an infinite rate), or too large.
    """
    if not bool(((counts >= 0) & (counts < LARGEST_INT32)).all()):
        raise LatdiffError(
            "sampled counts are not finite or exceed 2^31; ask for a smaller library, or fit again where none was asked"
        )
    return counts.to(torch.int32)


def as_csr(counts: Tensor, positions: Tensor, shape: Sequence[int]) -> csr_matrix:
    """Sampled counts that are not zero as CSR of int32, compressed where they were drawn: from a GPU only they travel.

    Parameters
    ----------
    counts
        (entries,).
    positions
        Where they are in the flattened (cells, genes), ascending, (entries,).
    shape
        Number of cells and of genes.

    Raises
    ------
    LatdiffError
        If one is no count.
    """
    from scipy.sparse import csr_matrix

    cells, genes = shape
    starts = torch.searchsorted(positions, torch.arange(cells + 1, device=positions.device) * genes)
    parts = (as_int32(counts), (positions % genes).to(torch.int32), starts)
    return csr_matrix(tuple(part.cpu().numpy() for part in parts), shape=(cells, genes))


class CountDistribution(Distribution, ABC):
    """A distribution over the counts of every gene of every cell, batch shape (batch, genes)."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Expected counts, (batch, genes)."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """Variance of the counts, (batch, genes)."""

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of dense counts, (batch, genes) to (batch, genes), in float32 or better."""

    @abstractmethod
    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw integer counts as floats, ``(*sample_shape, batch, genes)``; the same generator state, the same draw.

        The generator is of the device of the parameters.
        """

    def log_likelihood(self, counts: CountBatch) -> Tensor:
        """Log-probability of each cell, summed over genes, (batch,); override where the zeros have a short form."""
        return self.log_prob(counts.dense()).sum(-1)

    def sample_csr(self, generator: torch.Generator | None = None) -> csr_matrix:
        """Draw counts as a scipy CSR matrix of int32, (batch, genes)."""
        counts = self.sample(generator=generator)
        drawn = counts.reshape(-1)
        positions = drawn.nonzero().squeeze(-1)
        return as_csr(drawn[positions], positions, counts.shape)


class Decoder(nn.Module, ABC):
    """Maps latents to the count distribution p(x | z, library, covariates).

    Attributes
    ----------
    generates
        What samples and means are: counts, or, from a decoder made only to compare with systems that model
        normalised values, log1p of counts per 10,000. Likelihoods are of raw counts in both cases.
    """

    generates: ClassVar[Literal["counts", "log_normalised"]] = "counts"

    @abstractmethod
    def forward(self, z: Tensor, library: Tensor, covariates: Covariates) -> CountDistribution:
        """Return the distribution of the counts of every cell.

        Parameters
        ----------
        z
            Latents, (batch, latent).
        library
            Total counts of each cell, (batch,), > 0, of any numeric dtype.
        covariates
            The nuisance must reach the distribution; the condition may.

        Raises
        ------
        ShapeError
            If ``library`` is not (batch,).
        """

    def log_prior(self) -> Tensor:
        """Log-density of the weights in nats, up to a constant, a scalar; 0 for a decoder without a prior on them.

        Training adds it to the evidence bound of all training cells, once: the weights are then those that are most
        probable a posteriori, and what the data do not speak of stays where the prior puts it.
        """
        return torch.zeros(())


class DecoderConfig(ComponentConfig, ABC):
    """Base config of decoders.

    Attributes
    ----------
    zero_inflated
        Whether zeros have a probability of their own, as counts of reads need.
    """

    interface = "decoder"
    zero_inflated: ClassVar[bool] = False

    @abstractmethod
    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> Decoder:
        """Make the decoder; ``statistics`` is None when weights will be loaded into it."""
