"""Commands about what is installed and about configs; they read no data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latdiff_core.cli.options import Sets


def plugins() -> None:
    """List the installed plugins, what they bring, and which failed to load."""
    from latdiff_core.cli.output import print_plugins
    from latdiff_core.registry import installed

    print_plugins(installed().plugins)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's whole config.", show_default=False)] = None,
) -> None:
    """List the named configs, or print one with every default written out."""
    from latdiff_core.cli.output import print_recipes
    from latdiff_core.configs import dump_config, recipe_config
    from latdiff_core.registry import installed

    if name is None:
        print_recipes(installed().recipes)
    else:
        typer.echo(dump_config(recipe_config(name)), nl=False)


def check(
    config: Annotated[Path, typer.Argument(help="YAML config.", show_default=False)],
    set_: Sets = None,
) -> None:
    """Check a config without data: its fields, its kinds, and whether the parts fit each other."""
    from latdiff_core.assembly import check_assembly
    from latdiff_core.configs import parse_override, read_config

    check_assembly(read_config(config, dict(map(parse_override, set_ or []))))
    typer.echo(f"{config} is a valid model")


def schema() -> None:
    """Print the JSON Schema of configs over everything installed, for completion and checks in an editor."""
    import json

    from latdiff_core.configs import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of its distribution, e.g. latdiff-example.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            help="What it brings: an encoder, decoder, denoiser, schedule, conditioner, guidance or sampler.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to make.", show_default="NAME, here")] = None,
) -> None:
    """Write a small package with one working component of your own and its tests, to start from."""
    from shlex import quote

    from latdiff_core.scaffold import Plugin, write_plugin

    plugin, folder = Plugin(name, kind), out or Path(name)
    write_plugin(plugin, folder)
    typer.echo(f"{plugin.component} is in {folder / plugin.module / plugin.kind}.py. Next:")
    typer.echo(f"  pip install pytest -e {quote(str(folder))}")
    typer.echo(f"  pytest {quote(str(folder))}")
    typer.echo(f"  latdiff fit data.h5ad --condition cell_type --set {plugin.field}={plugin.kind} --out run")
