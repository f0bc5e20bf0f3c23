"""Faster arithmetic on a CPU, with the same numbers."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings (malloc.h)."""


@contextmanager
def tuned_cpu(device: torch.device | str = "cpu") -> Iterator[None]:
    """Within, memory that is freed is used again, and products of float32 matrices are oneDNN's.

    Training and generation allocate the same (batch, genes) again and again; by default every one is returned to the
    system and every page of it is fetched anew. glibc is told to keep such memory, for the life of the process; other
    systems are left alone. MKL, torch's default, multiplies at half the speed of oneDNN on some processors (AMD EPYC,
    128 x 256 by 256 x 13,714: 11.9 ms against 5.9 ms); where oneDNN is as exact, it does the work. Where another
    ``device`` computes it does not: torch then refuses to say how exact products are, and Lightning asks before it
    trains on a GPU.
    """
    _keep_freed_memory()
    if torch.device(device).type != "cpu" or not _onednn_is_exact():
        yield
        return
    with _onednn():
        yield


def multiplies_bfloat16() -> bool:
    """Whether this processor has products of bfloat16; others are made by imitating them, slower than in float32."""
    questions = [getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)]
    if platform.machine() in ("x86_64", "AMD64"):  # where oneDNN also says yes to imitations by AVX-512
        questions.append(getattr(torch.cpu, "_is_avx512_bf16_supported", None))
    return all(asked is None or asked() for asked in questions)


@contextmanager
def one_numba_thread() -> Iterator[None]:
    """Keep numba, below scanpy and UMAP, to one thread, and torch at its own number, which numba raises to all cores.

    Where other processes keep the cores busy, numba's threads wait for each other most of the time.
    """
    import numba

    threads, of_numba = torch.get_num_threads(), numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(of_numba)
        torch.set_num_threads(threads)


def return_freed_memory() -> None:
    """Give back to the system what was freed and kept, before other work that needs memory of another kind."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") else None
    except (OSError, TypeError):  # another system
        return None


@cache
def _keep_freed_memory() -> None:
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def _onednn() -> Iterator[None]:
    """Let oneDNN multiply: torch takes it for float32 only where bfloat16 would be allowed too."""
    backend: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        yield
    finally:
        backend.fp32_precision = before


@cache
def _onednn_is_exact() -> bool:
    """Whether this processor keeps float32 when it need not: those with matrix units (AMX) do not."""
    if not hasattr(torch.backends.mkldnn, "matmul"):
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, weight = torch.randn(128, 256), torch.randn(1024, 256)
    with _onednn():
        found = torch.nn.functional.linear(x, weight)
    exact = torch.nn.functional.linear(x.double(), weight.double())
    return bool((found - exact).abs().max() < 1e-4)  # bfloat16: 0.1
