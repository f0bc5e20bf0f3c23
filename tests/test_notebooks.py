"""Notebooks are stripped, built alike, and use public names only; `make test` executes them besides."""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DRAWS = re.compile(r"plt\.(subplots|figure)|_figure\(|\.plot\(|\.scatter\(|\.imshow\(|\.bar\(")
"""What a cell that shows a figure contains."""


def _cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_the_book_has_every_notebook_in_order():
    toc = (ROOT / "book" / "_toc.yml").read_text()
    assert re.findall(r"notebooks/(\w+)", toc) == [path.stem for path in NOTEBOOKS]
    assert yaml.safe_load(toc)["root"] == "book/index"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_stripped_and_its_cells_have_names_of_their_own(self, path: Path):
        notebook = json.loads(path.read_text())
        cells = notebook["cells"]
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
        assert len({cell["id"] for cell in cells}) == len(cells)
        for cell in _cells(path, "code"):
            assert cell["outputs"] == []
            assert cell["execution_count"] is None

    def test_claims_something_checks_it_and_says_what_to_change_next(self, path: Path):
        prose = [_source(cell) for cell in _cells(path, "markdown")]
        assert prose[0].startswith("# ")
        opening = "\n".join(prose[:2])
        assert "**Claim.**" in opening
        assert "**Time.**" in opening
        headings = re.findall(r"^## (.*)$", "\n".join(prose), re.MULTILINE)
        assert "Does the claim hold?" in headings
        assert headings[-1] == "What to change next"

    def test_has_prose_before_every_code_cell(self, path: Path):
        kinds = [cell["cell_type"] for cell in json.loads(path.read_text())["cells"]]
        assert ("code", "code") not in list(pairwise(kinds))

    def test_describes_its_figures_to_those_who_do_not_see_them(self, path: Path):
        drawing = [cell for cell in _cells(path, "code") if DRAWS.search(_source(cell))]
        described = [cell for cell in _cells(path, "code") if _alt_text(cell)]
        assert described
        assert [cell["id"] for cell in drawing if cell not in described and "def " not in _source(cell)] == []

    def test_uses_public_names_only(self, path: Path):
        for cell in _cells(path, "code"):
            lines = [line for line in _source(cell).splitlines() if not line.lstrip().startswith(("!", "%"))]
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("latdiff_"):
                    for alias in node.names:
                        assert _is_public(node.module or "", alias.name), f"{node.module}.{alias.name}"
                if isinstance(node, ast.Attribute):
                    assert not re.match(r"_[^_]", node.attr), f"{path.stem} uses {node.attr}"


def _alt_text(cell: dict[str, Any]) -> str:
    text: str = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    return text


def _is_public(module: str, name: str) -> bool:
    """Named by a package's ``__all__``, or of a module whose package does not name it."""
    if "_" in (part[0] for part in (*module.split("."), name)):
        return False
    found = import_module(module)
    if hasattr(found, "__all__"):
        return name in found.__all__ or (hasattr(found, name) and hasattr(getattr(found, name), "__path__"))
    return name not in getattr(import_module(module.rpartition(".")[0]), "__all__", [])
