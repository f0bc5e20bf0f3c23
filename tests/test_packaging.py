"""The distributions as a stranger gets them: built, installed into an empty environment, and used there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pytest

PROJECT = Path(__file__).parent.parent
PLUGINS = sorted(file.parent for file in PROJECT.glob("plugins/*/pyproject.toml"))
FOLDERS = {"latdiff-core": PROJECT, **{folder.name: folder for folder in PLUGINS}}
TINY_FIT = [
    "--condition", "cell_type",
    "--set", "autoencoder.latent_dim=4",
    "--set", "diffusion.denoiser={kind: dit, width: 16, depth: 1, heads: 2, token_dim: 2}",
    "--set", "diffusion.sampler.steps=4",
    "--set", "training.accelerator=cpu",
    "--set", "training.autoencoder={epochs: 2, min_steps: 1, batch_size: 32}",
    "--set", "training.diffusion={steps: 12, checks: 3, batch_size: 32}",
]  # fmt: skip
MAKE_DATA = 'from latdiff_core.data import demo_data; demo_data()[:600:4].copy().write_h5ad("data.h5ad")'
WHERE = """
import json, sys
from latdiff_core.registry import installed
names = [plugin.name for plugin in installed().plugins]
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("latdiff_")]
print(json.dumps({"plugins": names, "files": files, "path": sys.path}))
"""
BROKEN = {
    "no-import": "import a_package_that_is_not_there",
    "nonsense": """
from latdiff_core import hookimpl

@hookimpl
def latdiff_components():
    return 3
""",
    "aaa-encoder": """
from typing import Literal
from latdiff_core import hookimpl
from latdiff_core.interfaces import EncoderConfig

class LateEncoderConfig(EncoderConfig):
    kind: Literal["mlp"] = "mlp"

    def build(self, *, sizes, statistics):
        raise RuntimeError("the encoder that no one asked for")

@hookimpl
def latdiff_components():
    return [LateEncoderConfig]
""",
}


@dataclass(frozen=True)
class Distribution:
    """One distribution, built.

    Attributes
    ----------
    source
        The folder it was built from.
    sdist, wheel
        The files.
    """

    source: Path
    sdist: Path
    wheel: Path

    @property
    def module(self) -> str:
        """The package inside, e.g. latdiff_core."""
        return self.wheel.name.split("-")[0]

    @property
    def version(self) -> str:
        return self.wheel.name.split("-")[1]


@dataclass(frozen=True)
class Environment:
    """A virtual environment that shares nothing with the one the tests run in.

    Attributes
    ----------
    venv
        Where it is.
    work
        The empty folder in which its commands run, and which is their home.
    """

    venv: Path
    work: Path

    def run(self, command: str, *arguments: object) -> str:
        """Run one of its commands; gives standard output."""
        return _run(self.venv / "bin" / command, *arguments, cwd=self.work, HOME=str(self.work), COLUMNS="400")

    def pip(self, *arguments: object) -> str:
        """Run its pip, with the user's own configuration and cache."""
        return _run(self.venv / "bin" / "python", "-m", "pip", *arguments, cwd=self.work)

    @property
    def site_packages(self) -> Path:
        return next(self.venv.glob("lib/python*/site-packages"))


def _run(*command: object, cwd: Path, **variables: str) -> str:
    foreign = ("PYTHON", "VIRTUAL_ENV", "CONDA", "XDG_CACHE", "MPL")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    environment |= {"OMP_NUM_THREADS": "1", **variables}
    words = list(map(str, command))
    finished = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=900)
    assert finished.returncode == 0, f"{' '.join(words)}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Distribution]:
    """Every distribution: the sdist from the source tree, and the wheel from that sdist."""
    root = tmp_path_factory.mktemp("dist")

    def build(name: str) -> Distribution:
        out = root / name
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, FOLDERS[name], cwd=root)
        return Distribution(FOLDERS[name], next(out.glob("*.tar.gz")), next(out.glob("*.whl")))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FOLDERS, pool.map(build, FOLDERS), strict=True))


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory) -> Iterator[Environment]:
    """A fresh environment with all the wheels; what they depend on comes from the package index."""
    root = tmp_path_factory.mktemp("environment")
    environment = Environment(root / "venv", root / "work")
    environment.work.mkdir()
    _run(sys.executable, "-m", "venv", environment.venv, cwd=root)
    wheels = [distribution.wheel for distribution in built.values()]
    environment.pip("install", "--quiet", "--no-compile", "-c", PROJECT / "constraints.txt", *wheels)
    environment.run("python", "-P", "-c", MAKE_DATA)
    yield environment
    shutil.rmtree(root)  # more than a gigabyte


@pytest.fixture
def broken_plugins(environment) -> Iterator[None]:
    """Installs what no plugin should be."""
    for name, source in BROKEN.items():
        module = name.replace("-", "_")
        (environment.site_packages / f"{module}.py").write_text(source)
        information = environment.site_packages / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[latdiff]\n{name} = {module}\n")
    yield
    for name in BROKEN:
        module = name.replace("-", "_")
        (environment.site_packages / f"{module}.py").unlink()
        shutil.rmtree(environment.site_packages / f"{module}-1.0.dist-info")


def _row(table: str, distribution: str) -> str:
    """The line of `latdiff plugins` about a distribution that brings one part."""
    (line,) = [line for line in table.splitlines() if f" {distribution} " in line]
    return line


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_is_the_whole_package_and_nothing_else(built, name):
    """Recipes, templates and py.typed come along; tests do not."""
    distribution = built[name]
    package = distribution.source / distribution.module
    files = {file.relative_to(package.parent).as_posix() for file in package.rglob("*") if file.is_file()}
    files = {file for file in files if "__pycache__" not in file}
    held = {held for held in zipfile.ZipFile(distribution.wheel).namelist() if ".dist-info/" not in held}
    assert held == files
    assert f"{distribution.module}/py.typed" in held
    assert not any(Path(file).name.startswith(("test_", "conftest")) for file in held)


def test_recipes_and_templates_are_in_their_wheels(built):
    held = zipfile.ZipFile(built["latdiff-standard"].wheel).namelist()
    assert "latdiff_standard/recipes/default.yaml" in held
    held = zipfile.ZipFile(built["latdiff-core"].wheel).namelist()
    assert "latdiff_core/scaffold/templates/package/decoder.py.txt" in held
    assert "latdiff_core/scaffold/templates/tests/decoder.py.txt" in held


@pytest.mark.parametrize("name", FOLDERS)
def test_an_sdist_holds_what_is_to_be_read_and_no_other_distribution(built, name):
    distribution = built[name]
    with tarfile.open(distribution.sdist) as archive:
        held = {path.partition("/")[2] for path in archive.getnames()}
    expected = {"pyproject.toml", "README.md"}
    expected |= {"LICENSE"} if (distribution.source / "LICENSE").exists() else set()
    assert expected <= held
    tops = {path.split("/")[0] for path in held}
    assert tops - {distribution.module, "tests", "pyproject.toml", "PKG-INFO", ".gitignore"} <= {
        "README.md", "LICENSE", "CHANGELOG.md",
    }  # fmt: skip


def test_what_is_installed_fits_together(environment):
    assert "No broken requirements" in environment.pip("check")


def test_every_module_is_the_installed_one(environment, built):
    seen = json.loads(environment.run("python", "-P", "-c", WHERE))
    inside = environment.venv.resolve()
    assert all(Path(file).resolve().is_relative_to(inside) for file in seen["files"])
    modules = {Path(file).relative_to(environment.site_packages).parts[0] for file in seen["files"]}
    assert modules == {distribution.module for distribution in built.values()}
    assert not any(Path(entry).resolve().is_relative_to(PROJECT) for entry in seen["path"] if entry)


def test_a_plugin_is_found_by_its_entry_point_and_used_from_the_data_to_the_cells(environment, built):
    """The example, which core and the standard distributions know nothing of, decodes a model."""
    row = _row(environment.run("latdiff", "plugins"), "latdiff-example")
    assert built["latdiff-example"].version in row
    assert "decoder: generalized_poisson" in row
    decoder = ["--set", "autoencoder.decoder=generalized_poisson"]
    environment.run("latdiff", "fit", "data.h5ad", *TINY_FIT, *decoder, "--out", "run")
    environment.run("latdiff", "generate", "run", "-n", 20, "--out", "cells.h5ad")
    manifest = (environment.work / "run" / "manifest.json").read_text()
    assert "latdiff-example" in manifest
    cells = anndata.read_h5ad(environment.work / "cells.h5ad")
    assert cells.shape == (20, 765)
    assert cells.X.sum() > 0
    assert np.array_equal(cells.X.data, np.rint(cells.X.data))
    assert cells.X.data.min() >= 0


def test_a_plugin_can_be_begun_with_the_installed_command(environment):
    """The templates are found in the wheel."""
    environment.run("latdiff", "new-plugin", "latdiff-mine", "--kind", "sampler")
    assert (environment.work / "latdiff-mine" / "latdiff_mine" / "mine.py").exists()


@pytest.mark.usefixtures("broken_plugins")
def test_broken_plugins_are_listed_with_their_reasons_and_the_rest_works(environment):
    """None of them takes a kind away, also not by a name that comes first in the alphabet."""
    table = environment.run("latdiff", "plugins")
    assert "ModuleNotFoundError: No module named 'a_package_that_is_not_there'" in _row(table, "no-import")
    assert "returned 3 from latdiff_components" in _row(table, "nonsense")
    assert "the encoder 'mlp' is declared by both latdiff-counts and aaa-encoder" in _row(table, "aaa-encoder")
    assert "decoder: generalized_poisson" in _row(table, "latdiff-example")
    environment.run("latdiff", "fit", "data.h5ad", *TINY_FIT, "--set", "autoencoder.encoder=mlp", "--out", "beside")
    assert (environment.work / "beside" / "manifest.json").exists()
