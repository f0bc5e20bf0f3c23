"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataFile = Annotated[Path, typer.Argument(help="Cells with raw counts, .h5ad or .zarr.", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(help="Folder that `latdiff fit --out` made.", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Any config field, e.g. autoencoder.latent_dim=48. Repeatable."),
]
SamplingSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="A field of diffusion.sampler or diffusion.guidance, e.g. "
        "diffusion.sampler.steps=50. Repeatable.",
    ),
]  # fmt: skip
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same cells.")]
SmallSeed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same results.")]
Condition = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of obs to condition on; add :continuous for numbers, e.g. dose:continuous, or :vector for a "
        "key of obsm. Repeatable."
    ),
]
Nuisance = Annotated[
    list[str] | None,
    typer.Option(help="Column that the latent shall be free of, e.g. batch; written like --condition. Repeatable."),
]
Recipe = Annotated[
    str | None, typer.Option(help="Named config to start from; see `latdiff recipes`.", show_default="default")
]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML config, instead of a recipe.")]
Layer = Annotated[str | None, typer.Option(help="Layer with the raw counts, instead of X.")]
Share = Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the cells that are held out.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")]
