"""The commands, each a few lines over the Python door; heavy imports wait until a command needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from latdiff_core.cli.catalogue import check, new_plugin, plugins, recipes, schema
from latdiff_core.cli.options import (
    Condition,
    ConfigFile,
    DataFile,
    Layer,
    Nuisance,
    Overwrite,
    Recipe,
    Resume,
    RunFolder,
    SamplingSets,
    Seed,
    Sets,
    Share,
    SmallSeed,
)

app = typer.Typer(
    name="latdiff",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from latdiff_core import __version__

        typer.echo(f"latdiff {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Synthetic single-cell counts by latent diffusion."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    seed: SmallSeed = 0,
    set_: Sets = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a trial on real cells that ship with an installed package."""
    from latdiff_core.cli.output import print_trial
    from latdiff_core.configs import parse_override
    from latdiff_core.trial import run_demo

    typer.echo("700 PBMCs x 765 genes (Zheng et al. 2017); 30 % of every cell type are held out.")
    print_trial(run_demo(out, seed, dict(map(parse_override, set_ or [])), overwrite))
    typer.echo(f'More cells: latdiff generate {out / "run"} -n 1000 --where cell_type="CD19+ B" --out b_cells.h5ad')


@app.command()
def trial(
    data: DataFile,
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.", show_default=False)],
    condition: Condition = None,
    nuisance: Nuisance = None,
    recipe: Recipe = None,
    config: ConfigFile = None,
    layer: Layer = None,
    share: Share = 0.3,
    seed: SmallSeed = 0,
    set_: Sets = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Split, fit, generate and evaluate in one go: how good are the cells that a model makes of yours?"""
    from latdiff_core.cli.fitting import asked_model, print_fit
    from latdiff_core.cli.output import print_trial
    from latdiff_core.trial import run_trial

    model = asked_model(
        conditions=condition, nuisance=nuisance, recipe=recipe, config=config, layer=layer, sets=set_,
        training={"seed": seed},
    )  # fmt: skip
    made = run_trial(model, data, out, share=share, seed=seed, resume=resume, overwrite=overwrite)
    print_fit(made.model, out / "run")
    print_trial(made)
    typer.echo(f"More cells: latdiff generate {out / 'run'} -n 1000 --out cells.h5ad")


@app.command()
def split(
    data: DataFile,
    out: Annotated[Path, typer.Option(help="Folder for train.h5ad and held_out.h5ad.", show_default=False)],
    by: Annotated[
        list[str] | None,
        typer.Option(help="Column of obs of which every value keeps its share, e.g. cell_type. Repeatable."),
    ] = None,
    share: Share = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed holds out the same cells.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Hold out cells at random, in memory, to compare generated ones with."""
    from latdiff_core.splitting import split_to_folder

    for path, cells in split_to_folder(data, out, by=by or [], share=share, seed=seed, overwrite=overwrite).items():
        typer.echo(f"{cells} cells written to {path}")


@app.command()
def fit(
    data: DataFile,
    out: Annotated[Path, typer.Option(help="Run folder to write.", show_default=False)],
    condition: Condition = None,
    nuisance: Nuisance = None,
    recipe: Recipe = None,
    config: ConfigFile = None,
    layer: Layer = None,
    on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Leave the counts in their file: for more cells than memory holds.")
    ] = False,
    devices: Annotated[int | None, typer.Option(help="Processes, or GPUs, on each machine.", show_default="1")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines, under torchrun or srun.", show_default="1")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Lightning's strategy for several devices, e.g. ddp.", show_default="auto")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the matrix products: float32 or bfloat16.", show_default="float32")
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option(help="auto (a GPU if there is one), cpu or gpu.", show_default="auto")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random in training.", show_default="0")] = None,
    set_: Sets = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model on raw counts."""
    from latdiff_core.cli.fitting import asked_model, print_fit
    from latdiff_core.fitting_to_folder import fit_to_folder
    from latdiff_core.ranks import is_first

    training = {
        "devices": devices, "nodes": nodes, "strategy": strategy, "precision": precision, "accelerator": accelerator,
        "seed": seed,
    }  # fmt: skip
    model = asked_model(
        conditions=condition, nuisance=nuisance, recipe=recipe, config=config, layer=layer, sets=set_, training=training
    )
    fit_to_folder(model, data, out, resume=resume, on_disk=on_disk, overwrite=overwrite)
    if is_first():
        print_fit(model, out)


@app.command()
def generate(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="File to write, .h5ad or .zarr.", show_default=False)],
    n: Annotated[int | None, typer.Option("-n", help="Number of cells.", show_default=False)] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help='A condition, e.g. cell_type="B cell". Repeatable; the rest is drawn.'),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="One row of conditions per cell: a CSV, or what an .h5ad or .zarr says of its cells."),
    ] = None,
    library: Annotated[
        float | None, typer.Option(help="Expected total counts of every cell; generated by default.")
    ] = None,
    mean: Annotated[bool, typer.Option("--mean", help="Write expected counts instead of cells.")] = False,
    seed: Seed = 0,
    accelerator: Annotated[
        Literal["auto", "cpu", "gpu"],
        typer.Option(help="auto: a GPU if there is one. For the same seed a GPU and a CPU make different cells."),
    ] = "auto",
    set_: SamplingSets = None,
    overwrite: Overwrite = False,
) -> None:
    """Generate cells from a run folder; after an interruption, the same command goes on where it stopped."""
    from latdiff_core.cli.asking import read_table, settings
    from latdiff_core.configs import parse_override
    from latdiff_core.data import check_output
    from latdiff_core.errors import DataError
    from latdiff_core.model import LatentDiffusion
    from latdiff_core.paths import refuse_input
    from latdiff_core.ranks import rank_and_world

    rank, _ = rank_and_world()
    check_output(out, overwrite or rank > 0)
    refuse_input(out, table)
    if table is not None and where:
        raise DataError("give --where or --table, not both: the table holds every cell's conditions")
    model = LatentDiffusion.load(run)
    asked: Any = settings(where or []) if table is None else read_table(table, model.fitted.schema.keys)
    overrides = dict(map(parse_override, set_ or []))
    model.generate_to(
        out, n, asked, library=library, seed=seed, mean=mean, overrides=overrides, accelerator=accelerator,
        overwrite=overwrite, progress=rank == 0,
    )  # fmt: skip
    if rank == 0:
        typer.echo(f"{len(asked) if n is None else n} cells x {len(model.fitted.schema.genes)} genes written to {out}")


@app.command()
def evaluate(
    real: Annotated[Path, typer.Argument(help="Held-out real cells.", show_default=False)],
    synthetic: Annotated[Path, typer.Argument(help="Generated cells.", show_default=False)],
    reference: Annotated[Path, typer.Option(help="The cells that the model was fitted on.", show_default=False)],
    report: Annotated[Path | None, typer.Option(help="Page to write with all figures, e.g. report.html.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="File to write with everything that was found.")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of obs to compare by. Repeatable.", show_default="the conditions cells were generated for"
        ),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Value of a condition that the others are effects of. Repeatable."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer with the raw counts of the real cells.")] = None,
    splits: Annotated[int, typer.Option(min=2, help="How often held-out cells are split in two.")] = 10,
    seed: SmallSeed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare generated with held-out cells, each figure beside what real cells and trivial generators score."""
    from latdiff_core.cli.asking import settings
    from latdiff_core.cli.output import print_evaluation
    from latdiff_core.errors import DataError
    from latdiff_core.evaluation import evaluate as run
    from latdiff_core.evaluation import write_report
    from latdiff_core.paths import refuse_existing, refuse_input, refuse_unless_file

    files = [path for path in (report, json) if path is not None]
    for path in files:
        refuse_unless_file(path)
        refuse_existing(path, overwrite)
        refuse_input(path, real, synthetic, reference)
    if len(set(files)) < len(files):
        raise DataError(f"--report and --json both name {report}; give each its own file")
    found = run(
        real, synthetic, reference, condition, control=settings(control or [], "--control"), layer=layer, seed=seed,
        splits=splits, progress=True,
    )  # fmt: skip
    print_evaluation(found)
    if json is not None:
        found.save(json)
    if report is not None:
        write_report(found, report)
    for path in files:
        typer.echo(f"written to {path}")


for command in (plugins, recipes, check, schema, new_plugin):
    app.command()(command)
