"""What every distribution by a zero and what a count adds to it promises, at the extremes of its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latdiff_core.counts import CountBatch
from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial
from latdiff_counts.likelihood import LOG_THETA_RANGE
from latdiff_counts.sparse_distribution import SparseCountDistribution

KINDS = [Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial, NegativeBinomialMixture]


def _extremes(kind: type[SparseCountDistribution]) -> tuple[list[Tensor], Tensor]:
    """Every combination of extreme parameters and counts, (combinations, 1)."""
    log_mu, log_theta = torch.tensor([-30.0, -3.0, 0.0, 3.0, 10.0]), torch.tensor([LOG_THETA_RANGE[0], 0.0, 2.1, 24.0])
    logits, x = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4]), torch.tensor([0.0, 1.0, 100.0, 1e4])
    axes = {
        Poisson: (log_mu,),
        NegativeBinomial: (log_mu, log_theta),
        ZeroInflatedNegativeBinomial: (log_mu, log_theta, logits),
        NegativeBinomialMixture: (log_mu, log_theta, torch.tensor([-8.0, 0.0, 12.0]), logits),
    }[kind]
    *parameters, counts = (grid.reshape(-1, 1) for grid in torch.meshgrid(*axes, x, indexing="ij"))
    return parameters, counts


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_every_extreme(kind, dtype):
    parameters, x = _extremes(kind)
    parameters = [p.to(dtype).requires_grad_() for p in parameters]
    distribution = kind(*parameters)
    dense, sparse = distribution.log_prob(x), distribution.log_likelihood(CountBatch.from_dense(x))
    (dense.sum() + sparse.sum()).backward()
    assert dense.isfinite().all()
    assert dense.dtype == dtype
    assert dense.min() < -1e4
    assert dense.max() < 1e-3
    torch.testing.assert_close(sparse, dense.sum(-1))
    for parameter in parameters:
        assert parameter.grad.isfinite().all()


def _moderate(kind: type[SparseCountDistribution], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Random parameters (cells, genes), small and large inverse dispersions among them, and counts drawn from them."""
    generator = torch.Generator().manual_seed(0)
    log_mu, *others = (torch.randn(4, 30, generator=generator, dtype=dtype) * scale for scale in (1.5, 3.0, 3.0, 2.0))
    parameters = [log_mu, *others[: len(_extremes(kind)[0]) - 1]]
    return [p.requires_grad_() for p in parameters], torch.poisson(log_mu.detach().exp(), generator=generator)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sparse_form_has_the_gradient_of_the_dense_one(kind, dtype):
    parameters, x = _moderate(kind, dtype)
    sparse = torch.autograd.grad(kind(*parameters).log_likelihood(CountBatch.from_dense(x)).sum(), parameters)
    dense = torch.autograd.grad(kind(*parameters).log_prob(x).sum(), parameters)
    for ours, theirs in zip(sparse, dense, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_gradient_is_that_of_finite_differences(kind):
    parameters, x = _moderate(kind, torch.float64)
    assert torch.autograd.gradcheck(lambda *p: kind(*p).log_prob(x), parameters)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_number_is_asked_of_the_device(kind):
    """A GPU would be waited for. Tensors without numbers, on the device "meta", refuse to be asked."""
    parameters, x = _moderate(kind, torch.float32)
    on_meta = [p.detach().to("meta").requires_grad_() for p in parameters]
    counts = CountBatch.from_dense(x).to("meta")
    kind(*on_meta).log_likelihood(counts).sum().backward()
    assert [p.grad.shape for p in on_meta] == [p.shape for p in parameters]
    assert counts.times(counts.log1p_values(), torch.ones(30, 2, device="meta")).shape == (4, 2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_float32_agrees_with_float64_at_every_extreme(kind):
    """To 3e-6 of the largest of 1, |log-probability|, count and mean."""
    parameters, x = _extremes(kind)
    exact = kind(*(p.double() for p in parameters)).log_prob(x.double())
    scale = torch.stack([torch.ones_like(exact), exact.abs(), x.double(), parameters[0].double().exp()]).amax(0)
    error = ((kind(*parameters).log_prob(x) - exact).abs() / scale).max().item()
    print(f"{kind.__name__}, float32 vs float64 at the extremes: {error:.3g}")
    assert error < 3e-6


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_stored_zero_is_a_zero(kind):
    """A sparse matrix may store zeros; they add nothing to the closed form."""
    parameters = [torch.zeros(1, 3)] * len(_extremes(kind)[0])
    indptr, indices = torch.tensor([0, 2]), torch.tensor([0, 2])
    stored = CountBatch(indptr, indices, torch.tensor([4.0, 0.0]), genes=3)
    plain = CountBatch.from_dense(torch.tensor([[4.0, 0.0, 0.0]]))
    assert torch.equal(kind(*parameters).log_likelihood(stored), kind(*parameters).log_likelihood(plain))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_parameters_per_gene_are_those_of_every_cell(kind):
    """All but log mu may be (genes,): dense, sparse and drawn, they are expanded over the cells."""
    generator = torch.Generator().manual_seed(0)
    log_mu, *others = (torch.randn(size, generator=generator) for size in ((4, 5), (5,), (5,), (5,)))
    others = others[: len(_extremes(kind)[0]) - 1]
    per_gene, per_cell = kind(log_mu, *others), kind(log_mu, *(p.expand(4, 5) for p in others))
    x = torch.poisson(log_mu.exp(), generator=generator)
    assert torch.equal(per_gene.log_prob(x), per_cell.log_prob(x))
    counts = CountBatch.from_dense(x)
    torch.testing.assert_close(per_gene.log_likelihood(counts), per_cell.log_likelihood(counts))
    draws = [d.sample((3,), torch.Generator().manual_seed(0)) for d in (per_gene, per_cell)]
    assert torch.equal(*draws)
