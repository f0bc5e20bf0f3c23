"""What each choice of the default recipe is worth: `python benchmarks/ablation.py --data FOLDER`.

The default recipe with one thing changed at a time, fitted, generated and evaluated as in `quality.py`, and as
resumable. Variants of stage 2 take over stage 1 of the default of the same seed, and variants of sampling the whole
model: it is kept in `benchmarks/results/models`. All results become
`benchmarks/results/ablation.csv` and, as a table, `book/ablation.md`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import pandas as pd
from generators import Generated, Recipe, generated
from quality_table import write_tables
from runs import MODELS, RESULTS, run_once
from splits import DATA_SETS

from latdiff_core import LatentDiffusion

STAGE_1: Mapping[str, dict[str, Any]] = {
    "latent 16": {"autoencoder.latent_dim": 16},
    "latent 64": {"autoencoder.latent_dim": 64},
    "KL weight 0.3": {"training.autoencoder.kl_weight": 0.3},
    "KL weight 1": {"training.autoencoder.kl_weight": 1.0},
    "NB": {"autoencoder.decoder.kind": "negative_binomial"},
    "ZINB": {"autoencoder.decoder.kind": "zero_inflated_negative_binomial"},
    "dispersion per condition": {"autoencoder.decoder.dispersion": "condition"},
    "no dropout in the decoder": {"autoencoder.decoder.dropout": 0.0},
    "encoder on all genes": {"autoencoder.encoder": {"kind": "mlp", "hidden": [256, 128]}},
    "no prior on weights": {"autoencoder.decoder.weight_prior": None},
    "weights of stage 1 not averaged": {"training.autoencoder.ema_decay": 0.0},
    "dispersion the same at every depth": {"autoencoder.decoder.dispersion_by_depth": False},
    "decoder not told the condition": {"autoencoder.decoder.conditional": False},
    "decoder told it of three training cells in four": {"autoencoder.decoder.condition_dropout": 0.25},
    "decoder told it of every training cell": {"autoencoder.decoder.condition_dropout": 0.0},
}
STAGE_2: Mapping[str, dict[str, Any]] = {
    "prediction v": {"diffusion.prediction": "v"},
    "prediction clean": {"diffusion.prediction": "clean"},
    "cosine schedule": {"diffusion.schedule": {"kind": "cosine"}},
    "EDM schedule": {"diffusion.schedule": {"kind": "edm"}},
    "residual MLP": {"diffusion.denoiser": {"kind": "resnet_mlp", "width": 256, "depth": 3}},
    "DiT": {"diffusion.denoiser": {"kind": "dit", "width": 128, "depth": 3, "token_dim": 11}},
}
SAMPLING: Mapping[str, dict[str, Any]] = {
    "3 Heun steps": {"diffusion.sampler.steps": 3},
    "10 Heun steps": {"diffusion.sampler.steps": 10},
    "50 Heun steps": {"diffusion.sampler.steps": 50},
    "guidance 1.5": {"diffusion.guidance.scale": 1.5},
    "guidance 3": {"diffusion.guidance.scale": 3.0},
}
STAGE_1_FILES = ("autoencoder.safetensors", "autoencoder_history.json")
"""What `fit` leaves in its folder of checkpoints when stage 1 is done, and takes over when it finds it."""


@dataclass(frozen=True)
class Variant(Recipe):
    """The default recipe with one thing changed: what that concerns is fitted, the rest taken over from the default.

    Attributes
    ----------
    data
        Name of the data set.
    of
        What is changed: stage 1, stage 2, sampling, or nothing for the default.
    """

    data: str = ""
    of: str = "default"

    def __call__(self, train: anndata.AnnData, labels: pd.Series, seed: int) -> Generated:
        home, default = MODELS / f"{self.data}-{seed}", Variant("default", data=self.data)
        kept = default.is_kept(home / "run", seed) and all((home / name).exists() for name in STAGE_1_FILES)
        if self.of != "default" and not kept:
            default(train, labels, seed)
        if self.of == "sampling":
            return generated(LatentDiffusion.load(home / "run"), labels, seed, self.overrides)
        model = LatentDiffusion(self.config(seed))
        with tempfile.TemporaryDirectory() as checkpoints:
            if self.of == "stage 2":
                for name in STAGE_1_FILES:
                    shutil.copy(home / name, checkpoints)
            start = time.perf_counter()
            model.fit(train, checkpoints=checkpoints, progress=False)
            seconds = time.perf_counter() - start
            if self.of == "default":
                home.mkdir(parents=True, exist_ok=True)
                for name in STAGE_1_FILES:
                    shutil.copy(Path(checkpoints) / name, home)
                model.save(home / "run", overwrite=True)
        return replace(generated(model, labels, seed), fit_seconds=seconds)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .h5ad files")
    parser.add_argument("--sets", nargs="+", default=["kang_ifnb_merged"], choices=DATA_SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    groups = {"default": {"default": {}}, "sampling": SAMPLING, "stage 2": STAGE_2, "stage 1": STAGE_1}
    for seed in arguments.seeds:
        for data in arguments.sets:
            for of, variants in groups.items():
                for name, overrides in variants.items():
                    variant = Variant("default", overrides, data, of)
                    path = arguments.data / f"{data}.h5ad"
                    run_once(name, variant, path, seed, RESULTS / "ablation", arguments.threads)
    write_tables("ablation", "Ablation")


if __name__ == "__main__":
    main()
