"""Faster arithmetic on a CPU must be the same arithmetic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_where_a_gpu_computes_torch_says_how_exact_products_are():
    """Lightning asks before it trains on one, and got an error."""
    with tuned_cpu("cuda"):
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read where Linux shows it")
def test_memory_that_was_kept_can_be_given_back():
    """In a process of its own: 80 MB in pieces of 80 kB are kept when freed, and gone afterwards."""
    code = """
from pathlib import Path
import torch
from latdiff_core.cpu import return_freed_memory, tuned_cpu

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

with tuned_cpu():
    pieces = [torch.ones(20_000) for _ in range(1000)]
full = resident()
del pieces
kept = resident()
return_freed_memory()
print(full - kept, full - resident())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    freed, given_back = map(float, done.stdout.split())
    assert freed < 20
    assert given_back > 60
