"""How well each encoder and decoder explains held-out cells: `python benchmarks/stage1.py [data.h5ad]`.

Without a file it uses the demo's cells. 30 % of every label are held out; stage 1 of the default recipe is fitted to
the rest with one part changed. Printed are the negative log-likelihood and the KL of held-out cells in nats per cell
(their sum bounds the evidence; averaged over posterior samples), the share of zeros that the decoder expects, and how
many of ten thousand reconstructed training cells have a giant count: a hundred or more of one gene, and more than three
times what any training cell has of it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata
import numpy as np
import torch

from latdiff_core import CountBatch, LatentDiffusion
from latdiff_core.conditions import Annotations
from latdiff_core.data import annotation_table, demo_data, encode_obs, raw_counts, stratified_split

DRAWS = 8
GIANT, BEYOND = 100, 3
DECODER = "autoencoder.decoder"
PARTS = {
    "the default recipe": {},
    "poisson": {DECODER: {"kind": "poisson", "conditional": True, "weight_prior": 0.4}},
    "negative_binomial": {f"{DECODER}.kind": "negative_binomial"},
    "zero_inflated_negative_binomial": {f"{DECODER}.kind": "zero_inflated_negative_binomial"},
    "dispersion: condition": {f"{DECODER}.dispersion": "condition"},
    "dispersion: cell": {f"{DECODER}.dispersion": "cell"},
    "dispersion the same at every depth": {f"{DECODER}.dispersion_by_depth": False},
    "no prior on the last weights": {f"{DECODER}.weight_prior": None},
    "not told the condition": {f"{DECODER}.conditional": False},
    "encoder mlp": {"autoencoder.encoder": {"kind": "mlp", "hidden": [256, 128]}},
    "encoder set_transformer": {"autoencoder.encoder": "set_transformer"},
}
NO_DIFFUSION = {"training.diffusion.steps": 1, "training.diffusion.checks": 1}


@torch.no_grad()
def held_out(model: LatentDiffusion, test: anndata.AnnData) -> tuple[float, float, float]:
    """Nats per cell of likelihood and KL, and the expected share of zeros."""
    schema, autoencoder = model.fitted.schema, model.fitted.autoencoder
    table, counts = annotation_table(test, schema.keys), raw_counts(test)
    annotations = Annotations(encode_obs(table, schema.attributes), encode_obs(table, schema.nuisance))
    rows = []
    for start in range(0, test.n_obs, 256):
        cells = slice(start, start + 256)
        batch, covariates = CountBatch.from_csr(counts[cells]), annotations[cells].covariates(schema)
        for _ in range(DRAWS):
            elbo = autoencoder.elbo(batch, covariates)
            z = autoencoder.encode(batch, covariates).rsample()
            zeros = (
                autoencoder.decode(z, batch.library, covariates).log_prob(torch.zeros(len(batch), batch.genes)).exp()
            )
            rows.append([len(batch), elbo.nll, elbo.kl.sum(), zeros.mean()])
    values = np.array(rows, dtype=float)
    return tuple(np.average(values[:, 1:], axis=0, weights=values[:, 0]))


@torch.no_grad()
def giants(model: LatentDiffusion, train: anndata.AnnData, seed: int) -> float:
    """Of ten thousand reconstructed training cells, those with a count that is giant."""
    schema, autoencoder = model.fitted.schema, model.fitted.autoencoder
    table, counts = annotation_table(train, schema.keys), raw_counts(train)
    annotations = Annotations(encode_obs(table, schema.attributes), encode_obs(table, schema.nuisance))
    least = np.maximum(BEYOND * counts.max(0).toarray().ravel() + 1, GIANT)
    generator, found = torch.Generator().manual_seed(seed), 0
    for start in range(0, train.n_obs, 256):
        cells = slice(start, start + 256)
        batch, covariates = CountBatch.from_csr(counts[cells]), annotations[cells].covariates(schema)
        for _ in range(DRAWS):
            z = autoencoder.encode(batch, covariates).rsample()
            made = autoencoder.decode(z, batch.library, covariates).sample(generator=generator)
            found += int((made.numpy() >= least).any(1).sum())
    return 10_000 * found / (DRAWS * train.n_obs)


def main() -> None:
    """Fit every variant with every seed, print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--label", default="cell_type")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    cells = demo_data() if arguments.data is None else anndata.read_h5ad(arguments.data)
    print(f"{arguments.data or 'demo'}: {cells.n_obs} cells x {cells.n_vars} genes, {torch.get_num_threads()} threads")
    print(f"{'part':44} seed     nll      kl    -elbo  zeros (real)  giants  fit s")
    for seed in arguments.seeds:
        train, test = stratified_split(cells.obs[arguments.label].astype(str).to_numpy(), 0.3, seed)
        held = cells[test]
        real = 1 - raw_counts(held).nnz / np.prod(held.shape)
        for name in arguments.parts:
            overrides = PARTS[name]
            start = time.perf_counter()
            overrides = {**overrides, **NO_DIFFUSION, "training.seed": seed}
            model = LatentDiffusion.from_recipe("default", [arguments.label], overrides)
            model.fit(cells[train].copy(), progress=False)
            seconds = time.perf_counter() - start
            torch.manual_seed(seed)
            nll, kl, zeros = held_out(model, held)
            share, large = f"{zeros:.4f} ({real:.4f})", giants(model, cells[train], seed)
            print(f"{name:44} {seed:4} {nll:8.2f} {kl:7.2f} {nll + kl:8.2f} {share} {large:7.1f} {seconds:6.1f}")


if __name__ == "__main__":
    main()
