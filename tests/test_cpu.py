"""Faster arithmetic on a CPU must be the same arithmetic."""

from __future__ import annotations

import pytest
import torch

from latdiff_core.cpu import tuned_cpu


def test_products_keep_float32_and_the_setting_is_put_back():
    """To rounding of float32, whichever library multiplies; bfloat16 would be wrong in the third digit."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(64, 300, generator=generator), torch.randn(500, 300, generator=generator)
    exact = x.double() @ weight.double().T
    before = torch.backends.mkldnn.matmul.fp32_precision
    with tuned_cpu():
        found = torch.nn.functional.linear(x, weight)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_the_setting_is_put_back_after_an_error():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(ZeroDivisionError), tuned_cpu():
        1 / 0  # noqa: B018
    assert torch.backends.mkldnn.matmul.fp32_precision == before
