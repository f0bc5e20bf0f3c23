"""The rows of `speed.py`, a function each: what is timed, against what, and what it is to reach."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
from speed_models import BATCH, HIDDEN, NB, Stage1, cells_per_second, scvi_stage1
from speed_scale import generation, out_of_core, streaming
from timing import seconds
from torch.nn.functional import linear

from latdiff_core.counts import CountBatch
from latdiff_core.cpu import multiplies_bfloat16, tuned_cpu
from latdiff_core.device import Accelerator, chosen_device
from latdiff_core.interfaces import CountDistribution
from latdiff_core.sparse_product import sparse_product
from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, ZeroInflatedNegativeBinomial
from latdiff_counts.gene_head import PIECE

Row = dict[str, Any]
EPOCHS = {"cpu": 6, "gpu": 20}
"""Of stage 1 that are timed; half as many of the other side."""
HALF, COMPILED = {"training.precision": "bfloat16"}, {"training.compile": True}
OTHER_WAYS: Mapping[str, Mapping[str, Row]] = {
    "cpu": {"bfloat16 products": HALF},
    "gpu": {"bfloat16 products": HALF, "compiled": COMPILED, "bfloat16 products, compiled": HALF | COMPILED},
}
"""To train on each accelerator, beside float32."""


def _pbmc3k(data: Path) -> anndata.AnnData:
    return anndata.read_h5ad(data / "pbmc3k.h5ad")


def gemm_floor(genes: int, device: torch.device) -> float:
    """Seconds that the decoder's three products of one training step take, by the faster library.

    That to the genes is made in pieces, as ``GeneHead`` makes it; in one piece it may take longer.
    """
    hidden, weight = torch.randn(BATCH, HIDDEN, device=device), torch.randn(genes, HIDDEN, device=device)
    gradient = torch.randn(BATCH, genes, device=device)

    def step() -> None:
        for piece in weight.split(PIECE):
            linear(hidden, piece)
        gradient @ weight
        gradient.T @ hidden

    by_mkl = seconds(step)
    with tuned_cpu():
        return min(by_mkl, seconds(step))


def stage1_full(data: Path, accelerator: Accelerator) -> Iterator[Row]:
    """Training, all genes."""
    return _stage1(_pbmc3k(data), accelerator, "stage 1, pbmc3k, all genes", ">= 3", whole=True)


def stage1_hvg(data: Path, accelerator: Accelerator) -> Iterator[Row]:
    """Training, 2,000 highly variable genes."""
    import scanpy

    cells = _pbmc3k(data)
    logged = cells.copy()
    scanpy.pp.normalize_total(logged, target_sum=1e4)
    scanpy.pp.log1p(logged)
    scanpy.pp.highly_variable_genes(logged, n_top_genes=2000)
    chosen = cells[:, logged.var["highly_variable"]].copy()
    chosen = chosen[np.asarray(chosen.X.sum(1)).ravel() > 0].copy()
    return _stage1(chosen, accelerator, "stage 1, pbmc3k, 2,000 highly variable genes", ">= 2")


def _stage1(
    cells: anndata.AnnData, accelerator: Accelerator, name: str, target: str, whole: bool = False
) -> Iterator[Row]:
    """Rows of a training against scvi-tools'; of the ``whole`` transcriptome also of its floor, and in other ways."""
    placed = {**NB, "training.accelerator": accelerator}
    mine = cells_per_second(Stage1(cells, placed).train, cells.n_obs, EPOCHS[accelerator])
    other = cells_per_second(scvi_stage1(cells, accelerator), cells.n_obs, EPOCHS[accelerator] // 2)
    yield _against(f"{name}, float32", mine, other, "cells/s", "scvi-tools", target)
    if not whole:
        return
    step, products = BATCH / mine, gemm_floor(cells.n_vars, chosen_device(accelerator))
    yield {
        "work": "the same, of its GEMM floor", "latdiff": f"{1e3 * step:.1f} ms a step",
        "against": f"{1e3 * products:.2f} ms", "ratio": products / step, "to reach": ">= 0.6",
    }  # fmt: skip
    if accelerator == "cpu" and not multiplies_bfloat16():
        yield {"work": f"{name}, bfloat16 products", "latdiff": "none on this processor", "to reach": ">= 4"}
        return
    for way, overrides in OTHER_WAYS[accelerator].items():
        rate = cells_per_second(Stage1(cells, placed | overrides).train, cells.n_obs, EPOCHS[accelerator])
        yield _against(f"{name}, {way}", rate, other, "cells/s", "scvi-tools", ">= 4" if overrides == HALF else "")


def bfloat16_likelihood(data: Path, accelerator: Accelerator) -> list[Row]:
    """Held-out likelihood of stage 1 in both precisions."""
    from latdiff_core import LatentDiffusion

    found = {}
    for precision in ("float32", "bfloat16"):
        short = {**NB, "training.autoencoder.epochs": 20, "training.diffusion": {"steps": 1, "checks": 1}}
        short["training.accelerator"] = accelerator
        model = LatentDiffusion.from_recipe("default", ["cell_type"], {**short, "training.precision": precision})
        model.fit(_pbmc3k(data), progress=False)
        found[precision] = model.fitted.provenance["metrics"]["autoencoder_val_loss"]
    return [
        {"work": "negative ELBO of held-out pbmc3k cells after 20 epochs, bfloat16",
         "latdiff": f"{found['bfloat16']:.1f} nats", "against": f"{found['float32']:.1f} nats in float32",
         "ratio": found["bfloat16"] / found["float32"], "to reach": "the same"}
    ]  # fmt: skip


def likelihood(data: Path, accelerator: Accelerator) -> list[Row]:
    """Log-likelihood forward and backward at 95 % zeros."""
    import scvi.distributions as theirs
    from torch.distributions import NegativeBinomial as TorchNB

    device = chosen_device(accelerator)
    log_mu, log_theta, counts = _counts_at(0.95, device)
    dense, logits = counts.dense(), torch.full((GENES,), -3.0, device=device, requires_grad=True)
    bursts = torch.full((GENES,), 2.5, device=device, requires_grad=True)
    parameters = [log_mu.requires_grad_(), log_theta.requires_grad_(), logits, bursts]

    def timed(log_likelihood: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        def step() -> None:
            for parameter in parameters:
                parameter.grad = None
            log_likelihood(log_mu, log_theta).sum().backward()

        return seconds(step)

    unchecked = {"validate_args": False}
    with tuned_cpu():
        nb = timed(lambda m, a: NegativeBinomial(m, a).log_likelihood(counts))
        mixture = timed(lambda m, a: NegativeBinomialMixture(m, a, bursts, logits).log_likelihood(counts))
        zinb = timed(lambda m, a: ZeroInflatedNegativeBinomial(m, a, logits).log_likelihood(counts))
        torch_nb = timed(lambda m, a: TorchNB(a.exp(), logits=m - a, **unchecked).log_prob(dense))
        scvi_nb = timed(lambda m, a: theirs.NegativeBinomial(m.exp(), a.exp(), **unchecked).log_prob(dense))
        scvi_zinb = timed(
            lambda m, a: theirs.ZeroInflatedNegativeBinomial(m.exp(), a.exp(), zi_logits=logits, **unchecked).log_prob(
                dense
            )
        )
    name = "log-likelihood, forward and backward, 95 % zeros"
    return [
        _faster(f"NB {name}", nb, torch_nb, "torch.distributions", ">= 5"),
        _faster(f"NB {name}", nb, scvi_nb, "scvi-tools", ">= 5"),
        _faster(f"ZINB {name}", zinb, scvi_zinb, "scvi-tools", ""),
        {"work": f"NB mixture {name}", "latdiff": f"{1e3 * mixture:.1f} ms"},
    ]


def sampling(data: Path, accelerator: Accelerator) -> list[Row]:
    """Counts of 128 cells at 95 % zeros."""
    log_mu, log_theta, _ = _counts_at(0.95, chosen_device(accelerator))
    distribution = NegativeBinomial(log_mu, log_theta)
    with tuned_cpu():
        sparse = seconds(distribution.sample_csr)
        dense = seconds(lambda: distribution.sample())
        compressed = seconds(lambda: CountDistribution.sample_csr(distribution))
    return [
        _faster("NB counts, 95 % zeros, as CSR", sparse, dense, "dense Gamma-Poisson, left dense", ">= 4"),
        _faster("NB counts, 95 % zeros, as CSR", sparse, compressed, "dense Gamma-Poisson, compressed", ""),
    ]


def first_layer(data: Path, accelerator: Accelerator) -> list[Row]:
    """The first layer of an encoder, forward and backward, at several shares of zeros."""
    rows = []
    for zeros in (0.4, 0.5, 0.7, 0.95):
        dense = torch.rand(BATCH, GENES) * (torch.rand(BATCH, GENES) > zeros)
        counts, table = CountBatch.from_dense(dense), torch.randn(GENES, HIDDEN).requires_grad_()
        gradient = torch.randn(BATCH, HIDDEN)

        def sparse(counts=counts, table=table, gradient=gradient) -> None:
            sparse_product(counts.indptr, counts.indices, counts.values, table).backward(gradient)

        def full(counts=counts, table=table, gradient=gradient) -> None:
            (counts.dense() @ table).backward(gradient)

        with tuned_cpu():
            rows.append(_faster(f"first layer, {zeros:.0%} zeros", seconds(sparse), seconds(full), "dense", ""))
    return rows


def start_up(data: Path, accelerator: Accelerator) -> list[Row]:
    """What a user waits for before anything happens."""
    help_, import_ = (
        seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True), repeats=5)
        for command in (
            [str(Path(sys.executable).parent / "latdiff"), "--help"],
            [sys.executable, "-c", "import latdiff_core"],
        )
    )
    return [
        {"work": "latdiff --help", "latdiff": f"{help_:.2f} s", "to reach": "< 0.5 s"},
        {"work": "import latdiff_core", "latdiff": f"{import_:.2f} s", "to reach": "< 1.5 s"},
    ]


GENES = 13_000


def _counts_at(zeros: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, CountBatch]:
    """Log means and dispersions of a log-normal profile, and counts of 128 cells, of which a share are zero."""
    generator = torch.Generator().manual_seed(0)
    profile = torch.randn(GENES, generator=generator).mul_(2).softmax(0)
    log_theta = torch.full((GENES,), 2.0).log()
    low, high = 1.0, 1e6
    for _ in range(40):  # the library size at which the share is met
        library = (low * high) ** 0.5
        share = (-log_theta.exp() * torch.log1p(profile * library / log_theta.exp())).exp().mean()
        low, high = (library, high) if share > zeros else (low, library)
    log_mu = (profile * library).log().expand(BATCH, -1).clone()
    counts = NegativeBinomial(log_mu, log_theta).sample(generator=generator)
    return log_mu.to(device), log_theta.to(device), CountBatch.from_dense(counts).to(device)


def _against(work: str, mine: float, other: float, unit: str, whom: str, target: str) -> Row:
    return {
        "work": work, "latdiff": f"{mine:,.0f} {unit}", "against": f"{whom}: {other:,.0f} {unit}",
        "ratio": mine / other, "to reach": target,
    }  # fmt: skip


def _faster(work: str, mine: float, other: float, whom: str, target: str) -> Row:
    return {
        "work": work, "latdiff": f"{1e3 * mine:.1f} ms", "against": f"{whom}: {1e3 * other:.1f} ms",
        "ratio": other / mine, "to reach": target,
    }  # fmt: skip


WORKS: Mapping[str, Callable[[Path, Accelerator], Iterable[Row]]] = {
    "stage1_full": stage1_full,
    "bfloat16_likelihood": bfloat16_likelihood,
    "stage1_hvg": stage1_hvg,
    "likelihood": likelihood,
    "sampling": sampling,
    "first_layer": first_layer,
    "generation": generation,
    "streaming": streaming,
    "out_of_core": out_of_core,
    "start_up": start_up,
}
CPU_ONLY = ("first_layer", "start_up")
"""A GPU multiplies dense matrices and starts nothing."""
