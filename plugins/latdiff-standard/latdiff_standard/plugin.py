"""What this distribution adds to latdiff: the YAML files in ``recipes``, each under its file name."""

from importlib.resources import files
from typing import Any

import yaml

from latdiff_core import hookimpl


@hookimpl
def latdiff_recipes() -> dict[str, dict[str, Any]]:
    folder = files("latdiff_standard") / "recipes"
    yamls = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {file.name.removesuffix(".yaml"): yaml.safe_load(file.read_text()) for file in yamls}
