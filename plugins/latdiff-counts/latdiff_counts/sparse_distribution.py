"""The base of this package's count distributions: everything that follows from a zero and what a non-zero adds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from latdiff_core.counts import CountBatch
from latdiff_core.errors import LatdiffError
from latdiff_core.interfaces import CountDistribution, as_csr
from latdiff_counts.sampling import candidates

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class SparseCountDistribution(CountDistribution):
    """A count distribution by log p(0), cheap and needed everywhere, and log p(x) - log p(0), needed at non-zeros only.

    Parameters
    ----------
    log_mu
        Log of the location, (batch, genes), which sets shape and dtype.
    others
        Further parameters, each (genes,) or (batch, genes).
    """

    def __init__(self, log_mu: Tensor, *others: Tensor) -> None:
        super().__init__(batch_shape=log_mu.shape, validate_args=False)
        self.parameters = (log_mu, *others)

    @staticmethod
    @abstractmethod
    def log_zero(*parameters: Tensor) -> Tensor:
        """log p(0) at each entry of the parameters, (batch, genes) or (entries,)."""

    @staticmethod
    @abstractmethod
    def log_excess(x: Tensor, *parameters: Tensor) -> Tensor:
        """log p(x) - log p(0) at counts x > 0, in the shape of ``x``."""

    @staticmethod
    @abstractmethod
    def draw(parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        """Draw counts in the shape of the first of the parameters."""

    @staticmethod
    @abstractmethod
    def draw_from_uniform(uniform: Tensor, parameters: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        """Draw counts of some entries from their parameters, (entries,).

        As by inversion, X > 0 exactly where ``uniform``, (entries,) of float64 in [0, 1), is below the probability of
        that; entries whose number is not even below the mean, which bounds that probability, are not asked for.
        """

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.parameters[0].dtype)
        return self.log_zero(*self.parameters) + self._excess_or_zero(value, self.parameters)

    def log_likelihood(self, counts: CountBatch) -> Tensor:
        """Every gene as a zero, and at the stored entries what they add."""
        everywhere, at_entries = zip(*(_and_at_entries(p, counts) for p in self.parameters), strict=True)
        log_zero = self.log_zero(*everywhere)
        excess = self._excess_or_zero(counts.values.to(log_zero.dtype), at_entries)
        return log_zero.sum(-1) + counts.sum_per_cell(excess)

    def _excess_or_zero(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """``log_excess`` at x > 0, and exactly 0 at x = 0."""
        return torch.where(x > 0, self.log_excess(x.clamp(min=1), *parameters), 0.0)

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.batch_shape)
            return self.draw([p.expand(shape) for p in self.parameters], generator)

    def sample_csr(self, generator: torch.Generator | None = None) -> csr_matrix:
        """Counts where they may be other than zero, which is where a uniform number is below the mean, and no others.

        A GPU draws all of them sooner than it says how many of a few are left.
        """
        if any(bool(p.sum().isnan()) for p in self.parameters):  # of which what follows would make zeros
            raise LatdiffError("the distribution of counts is not finite; the model is not usable, fit it again")
        if self.parameters[0].device.type != "cpu":
            return super().sample_csr(generator)
        with torch.no_grad():
            positions, uniform = candidates(self.mean, generator)
            columns = positions % self.batch_shape[1]
            at_entries = [_gather(p, columns, positions) for p in self.parameters]
            counts = self.draw_from_uniform(uniform, at_entries, generator)
            kept = counts.nonzero().squeeze(-1)
            return as_csr(counts[kept], positions[kept], self.batch_shape)


def _and_at_entries(parameter: Tensor, counts: CountBatch) -> tuple[Tensor, Tensor]:
    """A parameter, and the same at the stored entries."""
    if parameter.dim() == 1:
        return parameter, _gather(parameter, counts.indices, counts.positions)
    everywhere, at_entries = _AndAtEntries.apply(parameter, counts.positions)
    return everywhere, at_entries


class _AndAtEntries(Function):
    """(batch, genes) as it is, and at flat positions, each given once; the gradients of both meet in one array.

    Left to autograd, that of the entries would be spread over an array of zeros, copied, and then added.
    """

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(positions)
        return parameter.view_as(parameter), parameter.reshape(-1).index_select(0, positions)

    @staticmethod
    def backward(ctx: Any, everywhere: Tensor, at_entries: Tensor) -> tuple[Tensor, None]:
        (positions,) = ctx.saved_tensors
        both = everywhere.clone(memory_format=torch.contiguous_format)
        both.view(-1).index_add_(0, positions, at_entries)
        return both, None


def _gather(parameter: Tensor, genes: Tensor, positions: Tensor) -> Tensor:
    """A parameter, (genes,) or (batch, genes), at entries given by their genes and their flat positions."""
    if parameter.dim() == 1:
        return parameter.index_select(0, genes)
    return parameter.reshape(-1).index_select(0, positions)
