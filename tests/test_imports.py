"""Import direction: a file imports only from its left, and each outside library stays in its place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import latdiff_core

ORDER = [
    {"errors", "cpu", "ranks", "sparse_product"},
    {"device", "paths"},
    {"counts", "prediction"},
    {"interfaces"},
    {"hookspecs", "registry"},
    {"configs", "schema"},
    {"conditions"},
    {"autoencoder", "diffusion"},
    {"assembly", "guidance_check"},
    {"data", "progress"},
    {"data_check", "training", "run_folder", "fitting", "generation", "asked_generation", "generation_to_file"},
    {"model", "splitting"},
    {"evaluation", "testing", "fitting_to_folder", "scaffold"},
    {"trial"},
    {"cli"},
]
LEVEL = {name: level for level, group in enumerate(ORDER) for name in group}
CONFINED = {
    "pluggy": {"hookspecs", "registry"},
    "lightning": {"training"},
    "pytorch_lightning": set(),
    "anndata": {
        "data",
        "fitting",
        "asked_generation",
        "model",
        "evaluation",
        "splitting",
        "fitting_to_folder",
        "trial",
    },
    "scanpy": {"data", "evaluation"},
    "pytest": {"testing"},
    "typer": {"cli"},
}

CORE = Path(latdiff_core.__file__).parent
FILES = sorted(CORE.rglob("*.py"))
PLUGINS = CORE.parent / "plugins"
PACKAGES = {p.parent.name: p.parent for p in PLUGINS.glob("*/*/__init__.py") if p.parent.name != "tests"}
PLUGIN_FILES = sorted(file for package in PACKAGES.values() for file in package.rglob("*.py"))


def place(file: Path) -> str:
    """The module or package directly below latdiff_core that a file belongs to; "" for latdiff_core itself."""
    part = file.relative_to(CORE).parts[0]
    return "" if part == "__init__.py" else part.removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Full dotted names of everything a file imports: at the top, for type checking, and inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def core_imports(file: Path) -> Iterator[str]:
    """The parts of latdiff_core that a file imports; public names count as the modules they come from."""
    for name in imported(file):
        if name.split(".")[0] == "latdiff_core":
            part = name.split(".")[1] if "." in name else ""
            part = latdiff_core._HOMES.get(part, part)
            if part and part != "__version__":
                yield part


def name_of(file: Path) -> str:
    return str(file.relative_to(CORE.parent))


def test_every_part_of_the_core_has_its_place_in_the_order():
    assert {place(file) for file in FILES} - {""} <= set(LEVEL)


@pytest.mark.parametrize("file", [f for f in FILES if place(f)], ids=name_of)
def test_a_file_imports_only_from_its_left(file):
    wrong = {part for part in core_imports(file) if LEVEL[part] > LEVEL[place(file)]}
    assert wrong == set(), f"{name_of(file)} must not know {wrong}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_each_outside_library_stays_in_its_place(file):
    libraries = {name.split(".")[0] for name in imported(file)}
    wrong = {lib for lib in libraries & set(CONFINED) if place(file) not in CONFINED[lib]}
    assert wrong == set()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_core_knows_no_plugin(file):
    others = {name.split(".")[0] for name in imported(file) if name.startswith("latdiff_")}
    assert others <= {"latdiff_core"}


@pytest.mark.parametrize("file", PLUGIN_FILES, ids=name_of)
def test_plugins_know_the_core_and_never_each_other(file):
    package = file.relative_to(PLUGINS).parts[1]
    known = {name.split(".")[0] for name in imported(file) if name.startswith("latdiff_")}
    if package != "latdiff_standard":
        assert known <= {"latdiff_core", package}
    assert set(core_imports(file)) <= {
        "errors", "device", "counts", "prediction", "interfaces", "hookspecs", "registry", "testing",
    }, "a plugin uses what interfaces need, and nothing of the machinery"  # fmt: skip


def test_importing_the_package_loads_neither_torch_nor_plugins():
    loaded = "import sys, latdiff_core; print(sorted({m.split('.')[0] for m in sys.modules}))"
    names = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert "'latdiff_core'" in names
    for name in ("torch", "anndata", "lightning", *PACKAGES):
        assert f"'{name}'" not in names
