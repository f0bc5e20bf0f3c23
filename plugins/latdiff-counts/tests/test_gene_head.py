"""The large layer of a decoder is a linear layer, however it is computed."""

from __future__ import annotations

import pytest
import torch

from latdiff_counts.gene_head import PIECE, GeneHead

GENES = 2 * PIECE + 37
"""The last piece is not a whole one."""


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_linear_layer(bias: bool) -> None:
    torch.manual_seed(0)
    head = GeneHead(7, GENES, bias=bias).double()
    hidden = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.linear(hidden, head.weight, head.bias)
    torch.testing.assert_close(head(hidden), plain, rtol=0, atol=1e-14)
    for shape in ((7,), (2, 3, 7), (0, 7)):
        more = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(head(more), torch.nn.functional.linear(more, head.weight, head.bias))
    asked = [hidden, *head.parameters()]
    towards = torch.randn_like(plain)
    found = torch.autograd.grad(head(hidden), asked, towards)
    expected = torch.autograd.grad(plain, asked, towards)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_gradients_are_those_of_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latdiff_counts.gene_head.PIECE", 4)
    head = GeneHead(3, 10).double()
    assert torch.autograd.gradcheck(head, torch.randn(2, 3, dtype=torch.float64, requires_grad=True))


def test_a_hidden_layer_without_gradient_has_none() -> None:
    head = GeneHead(3, GENES)
    head(torch.randn(4, 3)).sum().backward()
    torch.testing.assert_close(head.bias.grad, torch.full((GENES,), 4.0))


def test_the_bias_joins_in_float32_under_autocast() -> None:
    head = GeneHead(3, GENES)
    torch.nn.init.zeros_(head.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        numbers = head(torch.randn(4, 3))
    assert numbers.dtype == torch.float32
    torch.testing.assert_close(numbers, head.bias.expand(4, GENES), rtol=0, atol=0)
    numbers.sum().backward()
    assert head.weight.grad is not None
