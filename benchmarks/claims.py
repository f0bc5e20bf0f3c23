"""Two claims of the founding document, measured: `python benchmarks/claims.py --data FOLDER`.

"Sharper than a VAE": cells of one fitted default recipe, from latents of its diffusion and from latents of the
autoencoder's own prior, a standard normal; the library sizes are those of the diffusion for both. "10 to 100 times
faster": a training step and a call of the U-Net on the latent, and of one that is as wide as the genes are many. The
figures go to `benchmarks/results/claims.json` and `book/claims.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import anndata
import numpy as np
import torch
from generators import Recipe
from runs import BOOK, MODELS, RESULTS, SPLITS
from scipy import sparse
from splits import LABEL, load_split
from timing import seconds

from latdiff_conditioning import FiLMConditionerConfig
from latdiff_core import LatentDiffusion
from latdiff_core.conditions import Annotations, Conditions
from latdiff_core.data import encode_obs
from latdiff_core.evaluation import evaluate
from latdiff_core.interfaces import Conditioner
from latdiff_core.paths import write_text
from latdiff_denoisers import UNetConfig

SCORES = {"w2": "W2", "mmd2": "MMD²", "auc_genes": "AUC genes", "auc_pcs": "AUC PCs"}
BATCH, CONDITION_WIDTH, REPEATS = 256, 64, 7
BOTTLENECK = 64
DATA, SEED = "kang_ifnb_merged", 0


@torch.no_grad()
def prior_cells(model: LatentDiffusion, like: anndata.AnnData) -> anndata.AnnData:
    """Cells decoded from standard normal latents, with the labels and library sizes of others."""
    schema, autoencoder = model.fitted.schema, model.fitted.autoencoder
    generator = torch.Generator().manual_seed(SEED)
    z = torch.randn(like.n_obs, autoencoder.latent_dim, generator=generator)
    library = torch.as_tensor(np.asarray(like.X.sum(1)).ravel(), dtype=torch.float32)
    conditions = encode_obs(like.obs[[LABEL]], schema.attributes)
    covariates = Annotations(conditions, Conditions((), like.n_obs)).covariates(schema)
    counts = autoencoder.decode(z, library, covariates).sample_csr(generator)
    return anndata.AnnData(sparse.csr_matrix(counts), obs=like.obs.copy(), var=like.var.copy())


def sharpness(data: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Every score of both kinds of cells and of real ones."""
    train, test = load_split(data)
    model = Recipe("default").fitted(train, folder, SEED)
    diffused = model.generate(conditions=test.obs[[LABEL]], seed=SEED)
    rows: dict[str, dict[str, float]] = {}
    for name, cells in {"diffusion": diffused, "prior of the VAE": prior_cells(model, diffused)}.items():
        found = evaluate(test, cells, train, [LABEL], seed=SEED, splits=SPLITS).table
        rows[name] = {title: float(found.loc[key, "generated"]) for key, title in SCORES.items()}
        rows["real cells"] = {title: float(found.loc[key, "real"]) for key, title in SCORES.items()}
    return rows


def speed(genes: int, latent: int) -> dict[str, dict[str, float]]:
    """Seconds of a training step and of a call of the network, in the latent and among all genes."""
    rows = {}
    for name, dim, widths in (("latent", latent, (128, BOTTLENECK)), ("genes", genes, (genes, BOTTLENECK))):
        network = UNetConfig(widths=widths).build(dim=dim, make_conditioner=_conditioner)
        optimiser = torch.optim.AdamW(network.parameters(), fused=True)
        z, t, condition = torch.randn(BATCH, dim), torch.rand(BATCH), torch.randn(BATCH, 1, CONDITION_WIDTH)

        def step(network=network, optimiser=optimiser, inputs=(z, t, condition)) -> None:
            optimiser.zero_grad()
            (network(*inputs) - inputs[0]).square().mean().backward()
            optimiser.step()

        def call(network=network, inputs=(z, t, condition)) -> None:
            with torch.no_grad():
                network(*inputs)

        parameters = sum(p.numel() for p in network.parameters())
        rows[name] = {"parameters": parameters, "step": seconds(step, REPEATS), "call": seconds(call, REPEATS)}
    return rows


def _conditioner(width: int) -> Conditioner:
    return FiLMConditionerConfig().build(width=width, attributes=1, condition_width=CONDITION_WIDTH)


def main() -> None:
    """Measure both, write the figures and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.data / f"{DATA}.h5ad"
    genes = anndata.read_h5ad(path, backed="r").n_vars
    costs, sharp = speed(genes, 33), sharpness(path, MODELS / f"{DATA}-{SEED}" / "run")
    write_text(RESULTS / "claims.json", json.dumps({"sharpness": sharp, "speed": costs}, indent=1) + "\n")
    write_text(BOOK / "claims.md", page(costs, sharp))
    print(page(costs, sharp))


def page(costs: dict[str, dict[str, float]], sharp: dict[str, dict[str, float]]) -> str:
    """Both tables, in Markdown."""
    lines = ["# Claims\n", f"Printed by `benchmarks/claims.py` on {DATA}, one thread, seed {SEED}.\n"]
    lines += ["## Sharper than a VAE\n", "Latents of the diffusion, or of the same VAE's prior; means over halves.\n"]
    lines += ["| latents from | " + " | ".join(SCORES.values()) + " |", "|---" * (len(SCORES) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{value:.4g}" for value in row.values()) + " |" for name, row in sharp.items()
    ]
    lines += ["\n## Faster in the latent\n", f"A U-Net on {BATCH} cells; its first level is as wide as it has to be.\n"]
    lines += ["| | parameters | training step | call |", "|---|---|---|---|"]
    for name, row in costs.items():
        lines.append(f"| {name} | {row['parameters']:,} | {1e3 * row['step']:.1f} ms | {1e3 * row['call']:.2f} ms |")
    ratios = [costs["genes"][key] / costs["latent"][key] for key in ("parameters", "step", "call")]
    return "\n".join([*lines, "| ratio | " + " | ".join(f"{ratio:.0f}" for ratio in ratios) + " |"]) + "\n"


if __name__ == "__main__":
    main()
